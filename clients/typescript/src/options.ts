/** Owns the options of a client and of its calls. All durations are in milliseconds. */

import type { NearCache } from "./cache.js";
import type { CallerToken, Tls, TransportFactory } from "./transport.js";
import type { Claims, ClientInfo, EventType } from "./types.js";

/** Options of a client. */
export interface ClientOptions {
  /** The certificates of a TLS connection. Without this option, the connection has no TLS. */
  readonly tls?: Tls | undefined;
  /** The bearer token of this caller, or a function that returns the current token. */
  readonly token?: CallerToken | undefined;
  /** The timeout of a call that sets none, in milliseconds, retries included. Default: 300. */
  readonly timeoutMs?: number | undefined;
  /**
   * If true, validations that arrive while another is under way are sent together, as one batch.
   * Default: true.
   */
  readonly batching?: boolean | undefined;
  /**
   * A near cache, which answers validations in this process for as long as the answers certainly
   * hold. Default: none.
   */
  readonly cache?: NearCache | undefined;
  /**
   * How many calls may be under way at once. A batch is one call. Further calls wait, within their
   * timeouts. Keep this number below the service's MAX_PER_CONNECTION (100). Default: 64.
   */
  readonly maxInFlight?: number | undefined;
  /**
   * Options for the channel of `@grpc/grpc-js`. They are added to the client's own options, and
   * replace those of the same name.
   */
  readonly channelOptions?: Readonly<Record<string, string | number>> | undefined;
  /**
   * Creates the transport that makes the calls. `@session-authority/client/connect` has another
   * one. Default: a transport that uses `@grpc/grpc-js`.
   */
  readonly transport?: TransportFactory | undefined;
  /**
   * This function is called with a line of text when the near cache goes off or on, and when checks
   * of open connections fail. Default: nothing is logged.
   */
  readonly log?: ((message: string) => void) | undefined;
}

/** Options of every call. */
export interface CallOptions {
  /** The timeout of this call in milliseconds, retries included. Default: the client's timeout. */
  readonly timeoutMs?: number | undefined;
  /** A signal that ends the call. The call then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of every call that changes something. */
export interface ChangeOptions extends CallOptions {
  /**
   * If true, the call throws `not_replicated` if too few replicas have the change in time. A
   * service that waits for no replicas refuses the call. Default: false.
   */
  readonly requireReplicated?: boolean | undefined;
}

/** Options of `issueDevice`. */
export interface IssueDeviceOptions extends ChangeOptions {
  /** The device ID that the browser or app presented. */
  readonly deviceId?: string | undefined;
  /** The facts about the browser or app, only to be shown. */
  readonly client?: ClientInfo | undefined;
  /** The facts about the user that each validation returns. */
  readonly claims?: Claims | undefined;
  /** How the user proved their identity, such as "pwd". */
  readonly authMethods?: readonly string[] | undefined;
  /** The life of the session in milliseconds. Default and maximum: the service's `SESSION_TTL`. */
  readonly sessionTtlMs?: number | undefined;
  /**
   * How long the session may last unused, in milliseconds: at least a minute, or twice the
   * service's `TOUCH_INTERVAL` if that is longer. Default and maximum: the service's
   * `IDLE_TIMEOUT`.
   */
  readonly idleTimeoutMs?: number | undefined;
  /**
   * Two calls with the same `requestId` make one sign-in. Pass your own ID to continue a sign-in
   * that a crash interrupted. Default: the client makes an ID, so that the client's own retries
   * after a lost reply are safe, too.
   */
  readonly requestId?: string | undefined;
}

/** Options of `renewSession`. */
export interface RenewSessionOptions extends ChangeOptions {
  /** The facts about the browser or app, only to be shown. */
  readonly client?: ClientInfo | undefined;
  /** True if the end user did nothing: the session does not count as used. Default: false. */
  readonly passive?: boolean | undefined;
}

/** Options of `updateSession`. */
export interface UpdateSessionOptions extends ChangeOptions {
  /** The device whose session is updated. Default: the sessions on all devices of the user. */
  readonly deviceId?: string | undefined;
}

/** Options of `validateSession`. */
export interface ValidateSessionOptions extends CallOptions {
  /** The facts about the browser or app, only to be shown. */
  readonly client?: ClientInfo | undefined;
  /**
   * If true, the call changes nothing at the service, and its answer never comes from the near
   * cache. This is for operators. Default: false.
   */
  readonly observeOnly?: boolean | undefined;
  /**
   * True if a page sent the request by itself and the end user did nothing: the session does not
   * count as used. The answer never comes from the near cache. Default: false.
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
  /** The ID of the device that shows the list. Its entry has `current` set. */
  readonly currentDeviceId?: string | undefined;
  /** If true, the list has devices where the user is signed out, too. Default: false. */
  readonly includeSignedOut?: boolean | undefined;
  /** How many devices one call returns at the most. Default: the service's own number. */
  readonly pageSize?: number | undefined;
}

/** Options of `listDevices`. */
export interface ListPageOptions extends ListDevicesOptions {
  /** The `nextPageToken` of the previous page. Default: the first page. */
  readonly pageToken?: string | undefined;
}

/** Options of `revokeDevice`. */
export interface RevokeOptions extends ChangeOptions {
  /** The reason of the revocation. It stands in the event. */
  readonly reason?: string | undefined;
  /**
   * If true, the service also forgets the devices. A later sign-in on a forgotten device counts as
   * a sign-in on a new device. Default: false.
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
  /** The cursor of an earlier batch. The watch continues after this batch. */
  readonly cursor?: string | undefined;
  /** The moment at which the watch starts, for callers that have no cursor. Default: now. */
  readonly since?: Date | undefined;
  /** The watch sends only events of these types. Default: all types. */
  readonly types?: readonly EventType[] | undefined;
  /** The watch sends only events of these users. Default: all users. */
  readonly userIds?: readonly string[] | undefined;
  /** A signal that ends the watch. The watch then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}
