/** Defines the options of a client and of its calls. All durations are in milliseconds. */

import type { NearCache } from "./cache.js";
import type { CallerToken, Tls, TransportFactory } from "./transport.js";
import type { Claims, ClientInfo, EventType } from "./types.js";

/** Options of a client. */
export interface ClientOptions {
  /** The certificates for TLS. Without this option, the connection to the service has no TLS. */
  readonly tls?: Tls | undefined;
  /** The bearer token of this caller, or a function that returns the current token. */
  readonly token?: CallerToken | undefined;
  /** The default timeout of this client's calls in milliseconds, retries included. Default: 300. */
  readonly timeoutMs?: number | undefined;
  /**
   * If true, validations that arrive while another validation is under way are sent together later,
   * as one batch. Default: true.
   */
  readonly batching?: boolean | undefined;
  /**
   * A near cache. The cache keeps answers of the service in this process. It answers a validation
   * while its watch proves that the stored answer still holds. Default: none.
   */
  readonly cache?: NearCache | undefined;
  /**
   * How many calls may be under way at once. A batch is one call. Calls above this number wait in
   * the client, within their timeouts. Keep this number below the service's setting
   * `MAX_PER_CONNECTION` (default 100). Default: 64.
   */
  readonly maxInFlight?: number | undefined;
  /**
   * Options for the channel of `@grpc/grpc-js`. An option of this object replaces the client's own
   * option of the same name.
   */
  readonly channelOptions?: Readonly<Record<string, string | number>> | undefined;
  /**
   * A function that creates the transport for the calls. Default: `grpcTransport`, which uses
   * `@grpc/grpc-js`. The module `@session-authority/client/connect` has `connectTransport`, which
   * uses `@connectrpc/connect-node`.
   */
  readonly transport?: TransportFactory | undefined;
  /**
   * This function gets a line of text when the near cache goes off or on, and when checks of the
   * sessions of open connections fail. Default: nothing is logged.
   */
  readonly log?: ((message: string) => void) | undefined;
}

/** Options of all calls except `watchEvents`. */
export interface CallOptions {
  /** The timeout of this call in milliseconds, retries included. Default: the client's timeout. */
  readonly timeoutMs?: number | undefined;
  /** A signal that ends the call. If the signal aborts, the call throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of all calls that change something. */
export interface ChangeOptions extends CallOptions {
  /**
   * True makes the call throw `not_replicated` if too few replicas confirm the change in time. A
   * service whose setting `REPLICAS_ACK` is 0 refuses a call with this option, with
   * `invalid_request`. Default: false.
   */
  readonly requireReplicated?: boolean | undefined;
}

/** Options of `issueDevice`. */
export interface IssueDeviceOptions extends ChangeOptions {
  /**
   * The device ID that the browser or app presented. Default: the service assigns a new device ID.
   */
  readonly deviceId?: string | undefined;
  /** Facts about the end user's browser or app, to be shown in device lists and events. */
  readonly client?: ClientInfo | undefined;
  /** Facts about the user, which each validation of the session returns. */
  readonly claims?: Claims | undefined;
  /** How the user proved their identity, such as "pwd". */
  readonly authMethods?: readonly string[] | undefined;
  /** The life of the session in milliseconds. Default and maximum: the service's `SESSION_TTL`. */
  readonly sessionTtlMs?: number | undefined;
  /**
   * How long the session may last unused, in milliseconds. Minimum: one minute, or twice the
   * service's `TOUCH_INTERVAL` if that is longer than one minute. Default and maximum: the
   * service's `IDLE_TIMEOUT`.
   */
  readonly idleTimeoutMs?: number | undefined;
  /**
   * A UUID of this sign-in. Two calls with the same `requestId` within 15 minutes make only one
   * sign-in. If you pass your own UUID, you can repeat the call after a crash. Default: the client
   * makes a UUID, so that its own retries after a lost reply make no second sign-in.
   */
  readonly requestId?: string | undefined;
}

/** Options of `renewSession`. */
export interface RenewSessionOptions extends ChangeOptions {
  /** Facts about the end user's browser or app, to be shown in device lists and events. */
  readonly client?: ClientInfo | undefined;
  /**
   * True if the page or app sent the request by itself, without an action of the end user. The
   * session then does not count as used. Default: false.
   */
  readonly passive?: boolean | undefined;
}

/** Options of `updateSession`. */
export interface UpdateSessionOptions extends ChangeOptions {
  /**
   * The ID of the device whose session is updated. Default: the sessions on all devices of the user
   * are updated.
   */
  readonly deviceId?: string | undefined;
}

/** Options of `validateSession`. */
export interface ValidateSessionOptions extends CallOptions {
  /** Facts about the end user's browser or app, to be shown in device lists and events. */
  readonly client?: ClientInfo | undefined;
  /**
   * If true, the call changes nothing at the service, and its answer never comes from the near
   * cache. Operators use this option to look at a session. Default: false.
   */
  readonly observeOnly?: boolean | undefined;
  /**
   * True if the page or app sent the request by itself, without an action of the end user. The
   * session then does not count as used, and the answer never comes from the near cache. Default:
   * false.
   */
  readonly passive?: boolean | undefined;
}

/** The access token and the device ID that a request presented. */
export interface Presented {
  readonly accessToken: string;
  readonly deviceId: string;
}

/** Options of `listDevices` and `devices`. */
export interface ListDevicesOptions extends CallOptions {
  /** The ID of the device that shows the list. In the list, this device has `current` set. */
  readonly currentDeviceId?: string | undefined;
  /** If true, the list also has the devices on which the user is signed out. Default: false. */
  readonly includeSignedOut?: boolean | undefined;
  /** The highest number of devices on one page. Default: the service chooses the number. */
  readonly pageSize?: number | undefined;
}

/** Options of `listDevices`. */
export interface ListPageOptions extends ListDevicesOptions {
  /** The `nextPageToken` of the previous page. Default: the first page. */
  readonly pageToken?: string | undefined;
}

/** Options of `revokeDevice`. */
export interface RevokeOptions extends ChangeOptions {
  /** The reason of the revocation. The event of the revocation contains this text. */
  readonly reason?: string | undefined;
  /**
   * If true, the service also forgets the devices on which it signs the user out. A later sign-in
   * on a forgotten device counts as a sign-in on a new device. Default: false.
   */
  readonly forget?: boolean | undefined;
}

/** Options of `revokeAll`. */
export interface RevokeAllOptions extends RevokeOptions {
  /** The ID of the one device where the user stays signed in. Default: none. */
  readonly exceptDeviceId?: string | undefined;
}

/** Options of `watchEvents`. */
export interface WatchEventsOptions {
  /**
   * The cursor of an earlier batch. The watch continues after this batch. Default: the watch starts
   * at `since`.
   */
  readonly cursor?: string | undefined;
  /**
   * The moment from which the watch yields events. The moment may be as long ago as the service's
   * setting `EVENT_MEMORY`, which is 7 days if nobody sets it. Do not pass `cursor` and `since`
   * together. Default: now.
   */
  readonly since?: Date | undefined;
  /** The types of events that the watch yields. Default: all types. */
  readonly types?: readonly EventType[] | undefined;
  /** The IDs of the users whose events the watch yields. Default: all users. */
  readonly userIds?: readonly string[] | undefined;
  /** A signal that ends the watch. If the signal aborts, the watch throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}
