/** Owns the options of a client and of its calls. All durations are in milliseconds. */

import type { NearCache } from "./cache.js";
import type { CallerToken, Tls, TransportFactory } from "./transport.js";
import type { Claims, ClientInfo, EventType } from "./types.js";

/** Options of a client. */
export interface ClientOptions {
  /** Makes the connection over TLS. */
  readonly tls?: Tls | undefined;
  /** This caller's bearer token, or a function that returns the current one. */
  readonly token?: CallerToken | undefined;
  /** The time of each call that is given no other, retries included. 300 if not given. */
  readonly timeoutMs?: number | undefined;
  /** Whether validations that come while others are under way go together. True if not given. */
  readonly batching?: boolean | undefined;
  /** Answers validations in this process as long as the answers certainly hold. */
  readonly cache?: NearCache | undefined;
  /**
   * How many calls may be under way at once. A batch is one call. Further calls wait, within their
   * timeouts. Keep it below the service's MAX_PER_CONNECTION (100). 64 if not given.
   */
  readonly maxInFlight?: number | undefined;
  /** Options of the channel of `@grpc/grpc-js`, beside or instead of the client's own. */
  readonly channelOptions?: Readonly<Record<string, string | number>> | undefined;
  /** Carries the calls, if not `@grpc/grpc-js`: see `@session-authority/client/connect`. */
  readonly transport?: TransportFactory | undefined;
  /** Is told when the near cache goes off and on, and of failing checks of open connections. */
  readonly log?: ((message: string) => void) | undefined;
}

/** What every call takes. */
export interface CallOptions {
  /** The time of this call, retries included. */
  readonly timeoutMs?: number | undefined;
  /** Ends the call: it throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** What every call that changes something takes. */
export interface ChangeOptions extends CallOptions {
  /**
   * Throws `not_replicated` if too few replicas have it in time. Refused where the service waits
   * for none.
   */
  readonly requireReplicated?: boolean | undefined;
}

/** Options of `issueDevice`. */
export interface IssueDeviceOptions extends ChangeOptions {
  /** What the browser or app presented. */
  readonly deviceId?: string | undefined;
  /** What is known of the browser or app, only to be shown. */
  readonly client?: ClientInfo | undefined;
  /** What the app wants to find in each validation. */
  readonly claims?: Claims | undefined;
  /** How the user proved their identity, such as "pwd". */
  readonly authMethods?: readonly string[] | undefined;
  /** The life of the session, if not the service's own. */
  readonly sessionTtlMs?: number | undefined;
  /** How long the session may last unused, if not the service's own: from 1 or 2 minutes on. */
  readonly idleTimeoutMs?: number | undefined;
  /**
   * Repeated, it signs in once. Give your own to go on with a sign-in that a crash interrupted;
   * without one a retry after a lost reply is safe, too.
   */
  readonly requestId?: string | undefined;
}

/** Options of `renewSession`. */
export interface RenewSessionOptions extends ChangeOptions {
  /** What is known of the browser or app, only to be shown. */
  readonly client?: ClientInfo | undefined;
  /** The end user did nothing: the session does not count as used. */
  readonly passive?: boolean | undefined;
}

/** Options of `updateSession`. */
export interface UpdateSessionOptions extends ChangeOptions {
  /** The device whose session it is, if not those on all devices of the user. */
  readonly deviceId?: string | undefined;
}

/** Options of `validateSession`. */
export interface ValidateSessionOptions extends CallOptions {
  /** What is known of the browser or app, only to be shown. */
  readonly client?: ClientInfo | undefined;
  /** Changes nothing, and never looks into the cache. For operators. */
  readonly observeOnly?: boolean | undefined;
  /**
   * The end user did nothing, a page asks by itself: the session does not count as used. The cache
   * is left out.
   */
  readonly passive?: boolean | undefined;
}

/** What a request presented. */
export interface Presented {
  readonly accessToken: string;
  readonly deviceId: string;
}

/** Options of `listDevices` and `devices`. */
export interface ListDevicesOptions extends CallOptions {
  /** The device that asks: it is `current` in the list. */
  readonly currentDeviceId?: string | undefined;
  /** Lists devices where the user is signed out, too. */
  readonly includeSignedOut?: boolean | undefined;
  /** How many devices one call brings, if not as many as the service chooses. */
  readonly pageSize?: number | undefined;
}

/** Options of `listDevices`. */
export interface ListPageOptions extends ListDevicesOptions {
  /** The `nextPageToken` of the page before. */
  readonly pageToken?: string | undefined;
}

/** Options of `revokeDevice`. */
export interface RevokeOptions extends ChangeOptions {
  /** Why, for the event. */
  readonly reason?: string | undefined;
  /** Drops the devices from the list, too. */
  readonly forget?: boolean | undefined;
}

/** Options of `revokeAll`. */
export interface RevokeAllOptions extends RevokeOptions {
  /** The one device where the user stays signed in. */
  readonly exceptDeviceId?: string | undefined;
}

/** Options of `watchEvents`. */
export interface WatchEventsOptions {
  /** Goes on from here. */
  readonly cursor?: string | undefined;
  /** Starts at this moment. For callers that have no cursor. */
  readonly since?: Date | undefined;
  /** Only events of these types. */
  readonly types?: readonly EventType[] | undefined;
  /** Only events of these users. */
  readonly userIds?: readonly string[] | undefined;
  /** Ends the watch: it throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}
