/**
 * Defines the types of the arguments and results of calls, without types of gRPC or protobuf. A
 * moment is a `Date`, a duration is a `number` of milliseconds, and an enum is a union of strings.
 *
 * Several callers may get the same object as their result, so don't change a result.
 */

/**
 * The status of a presented token or of a session. Only with `ACTIVE` is the session good.
 * `UNSPECIFIED` stands for a status that this version does not know.
 */
export type SessionStatus =
  | "UNSPECIFIED"
  | "ACTIVE"
  | "TOKEN_MISSING"
  | "TOKEN_INVALID"
  | "TOKEN_EXPIRED"
  | "NO_SESSION"
  | "SESSION_EXPIRED"
  | "SUPERSEDED"
  | "REPLAYED"
  | "SESSION_ENDED"
  | "WRONG_DEVICE";

/** The kind of a device. `UNSPECIFIED` means that the kind is unknown. */
export type FormFactor =
  | "UNSPECIFIED"
  | "DESKTOP"
  | "PHONE"
  | "TABLET"
  | "TV"
  | "CONSOLE"
  | "WEARABLE"
  | "BOT";

/**
 * The type of an event. `UNSPECIFIED` stands for a type that this version does not know. After an
 * event of type `UNSPECIFIED`, drop everything that you cache.
 */
export type EventType =
  | "UNSPECIFIED"
  | "DEVICE_SIGNED_IN"
  | "SESSION_REPLAYED"
  | "ENDED_TOKEN_PRESENTED"
  | "DEVICE_REVOKED"
  | "ALL_REVOKED"
  | "DEVICE_EVICTED"
  | "SIGNING_KEY_REVOKED"
  | "SUPERSEDED_TOKEN_PRESENTED"
  | "SESSION_UPDATED";

/**
 * The reason why a token counts as replayed. `UNSPECIFIED` means that there was no replay, or that
 * the reason is unknown.
 */
export type ReplayCause =
  | "UNSPECIFIED"
  | "SUPERSEDED_TOKEN"
  | "SECOND_COPY"
  | "LEFT_DEVICE"
  | "REPLACED_SESSION";

/**
 * The service's action after a replay: it signed the user out on all devices, signed the user out
 * on the device, or only denied the token. `UNSPECIFIED` means that there was no replay, or that
 * the action is unknown.
 */
export type ReplayAction = "UNSPECIFIED" | "REVOKE_ALL" | "REVOKE_DEVICE" | "DENY";

/**
 * Says whether a failover can lose a change. `UNSPECIFIED` means that nothing was written, or that
 * the service is too old to send this field. `LOCAL` means that a failover can lose the change.
 * `REPLICATED` means that the primary and `REPLICAS_ACK` replicas have the change.
 */
export type Durability = "UNSPECIFIED" | "LOCAL" | "REPLICATED";

/**
 * Facts about a user, which each validation of the session returns. Don't pass permissions as
 * claims, because claims last as long as the session.
 */
export type Claims = Readonly<Record<string, string>>;

/** A brand of a browser, and the version of the brand: "Google Chrome", "148.0.7778.96". */
export interface ClientBrand {
  readonly name: string;
  readonly version?: string | undefined;
}

/**
 * The values of a browser's `Sec-CH-UA` headers. A field is undefined or empty if the browser did
 * not send its header.
 */
export interface ClientHints {
  readonly brands?: readonly ClientBrand[] | undefined;
  readonly platform?: string | undefined;
  readonly platformVersion?: string | undefined;
  readonly model?: string | undefined;
  readonly mobile?: boolean | undefined;
  readonly formFactors?: readonly string[] | undefined;
}

/** The place where an end user is: a city, and an ISO 3166-1 alpha-2 code of a country ("DE"). */
export interface Place {
  readonly city?: string | undefined;
  readonly countryCode?: string | undefined;
}

/**
 * Facts about the end user's browser or app. The service shows these facts to people. These facts
 * have no effect on verdicts.
 *
 * If `place` is set, it replaces the place that the service finds for `ipAddress`.
 */
export interface ClientInfo {
  readonly ipAddress?: string | undefined;
  readonly userAgent?: string | undefined;
  readonly displayName?: string | undefined;
  readonly appVersion?: string | undefined;
  readonly clientHints?: ClientHints | undefined;
  readonly place?: Place | undefined;
}

/** An alarm about a replayed token of a session on a device. */
export interface DeviceAlarm {
  readonly createTime: Date;
  readonly replayCause: ReplayCause;
}

/**
 * A device of a user: a browser or an app installation. A string field is empty if its value is
 * unknown.
 *
 * `city` and `countryCode` ("DE") say where the device was last seen. `authMethods` says how the
 * user proved their identity at the sign-in of the live session. `lastAlarm` is the last alarm
 * about a session on the device, if it was in the last 28 days.
 */
export interface Device {
  readonly deviceId: string;
  readonly displayName: string;
  readonly operatingSystem: string;
  readonly browser: string;
  readonly formFactor: FormFactor;
  readonly lastClient: ClientInfo;
  readonly sessionId: string;
  readonly createTime: Date | undefined;
  readonly signInTime: Date | undefined;
  readonly lastSeenTime: Date | undefined;
  readonly expireTime: Date | undefined;
  readonly absoluteExpireTime: Date | undefined;
  readonly current: boolean;
  readonly signedIn: boolean;
  readonly model: string;
  readonly city: string;
  readonly countryCode: string;
  readonly authMethods: readonly string[];
  readonly lastAlarm: DeviceAlarm | undefined;
}

/** The fields that identify a session without a token. */
export interface SessionName {
  readonly userId: string;
  readonly deviceId: string;
  readonly sessionId: string;
}

/**
 * A user's session on a device. The session was good when the service answered. `authMethods` says
 * how the user proved their identity at the sign-in. `claims` are the claims in the token: those of
 * the sign-in, or those of the last `updateSession` before the token was made.
 *
 * `expireTime` is the time when the session ends if the session is not used again.
 * `absoluteExpireTime` is when the session ends even if it is used. `absoluteExpireTime` is
 * undefined if the service is too old to send this field.
 */
export interface Session extends SessionName {
  readonly generation: number;
  readonly claims: Claims;
  readonly authMethods: readonly string[];
  readonly signInTime: Date;
  readonly tokenExpireTime: Date;
  readonly expireTime: Date;
  readonly absoluteExpireTime: Date | undefined;
}

/**
 * The state of a session, as `checkSessions` returns it. `active` is true if the session lives.
 * `expireTime` and `absoluteExpireTime` have the same meaning as in `Session`. Both times are
 * undefined if the session does not live.
 */
export interface SessionState {
  readonly active: boolean;
  readonly status: SessionStatus;
  readonly expireTime: Date | undefined;
  readonly absoluteExpireTime: Date | undefined;
}

/** The result of a sign-in, as `issueDevice` returns it. */
export interface IssuedDevice {
  readonly device: Device;
  readonly accessToken: string;
  readonly tokenExpireTime: Date;
  readonly deviceIdAssigned: boolean;
  readonly newDevice: boolean;
  readonly evictedDevices: readonly Device[];
  readonly durability: Durability;
}

/** The result of a validation. `active` is true if, and only if, the session is good. */
export type Validation = ActiveValidation | DeniedValidation;

interface AnyValidation {
  readonly status: SessionStatus;
  readonly deviceId: string;
  readonly deviceIdAssigned: boolean;
  readonly renewRecommended: boolean;
  readonly revokedDevices: number;
}

/** The result of a validation that found a good session. */
export interface ActiveValidation extends AnyValidation {
  readonly active: true;
  readonly status: "ACTIVE";
  readonly session: Session;
}

/** The result of a validation that found no good session. */
export interface DeniedValidation extends AnyValidation {
  readonly active: false;
  readonly session: undefined;
}

/**
 * The result of a renewal. `active` is true if the session is good. `accessToken` is the new token.
 * If `active` is true and `accessToken` is undefined, the end user's client keeps its present
 * token.
 */
export interface Renewal {
  readonly active: boolean;
  readonly status: SessionStatus;
  readonly session: Session | undefined;
  readonly rotated: boolean;
  readonly accessToken: string | undefined;
  readonly tokenExpireTime: Date | undefined;
  readonly revokedDevices: number;
  readonly durability: Durability;
}

/**
 * One page of a user's devices, most recently used first. `nextPageToken` is empty on the last
 * page. `totalSize` is the number of devices on all pages.
 */
export interface DevicePage {
  readonly devices: readonly Device[];
  readonly nextPageToken: string;
  readonly totalSize: number;
}

/**
 * A public key of the service, with which access tokens are verified. `jwkJson` is a JWK (RFC
 * 7517).
 */
export interface SigningKey {
  readonly keyId: string;
  readonly algorithm: string;
  readonly jwkJson: string;
}

/** All public keys of the service. `jwksJson` is a JWK set of these keys. */
export interface SigningKeys {
  readonly keys: readonly SigningKey[];
  readonly jwksJson: string;
}

/**
 * An event of the service, such as a sign-in or a revocation. docs/events.md says which fields each
 * type of events has.
 */
export interface Event {
  readonly eventId: string;
  readonly type: EventType;
  readonly createTime: Date;
  readonly userId: string;
  readonly sessionId: string;
  readonly actor: string;
  readonly reason: string;
  readonly deviceId: string;
  readonly deviceDisplayName: string;
  readonly client: ClientInfo;
  readonly operatingSystem: string;
  readonly browser: string;
  readonly formFactor: FormFactor;
  readonly model: string;
  readonly city: string;
  readonly countryCode: string;
  readonly newDevice: boolean;
  readonly firstDevice: boolean;
  readonly replayCause: ReplayCause;
  readonly replayAction: ReplayAction;
  readonly exceptDeviceId: string;
  readonly keyId: string;
}

/**
 * Events that arrived in one message of a watch. `cursor` is the position after these events.
 *
 * If `readTime` is set, the batch proves that the watch has sent all events from before `readTime`.
 * `readUptimeMs` is the same moment by a monotonic clock of the server. A single value of
 * `readUptimeMs` has no meaning. The difference between the `readUptimeMs` of two batches of one
 * watch is the time between the two moments.
 */
export interface EventBatch {
  readonly events: readonly Event[];
  readonly cursor: string;
  readonly readTime: Date | undefined;
  readonly readUptimeMs: number | undefined;
}
