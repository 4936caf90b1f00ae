/**
 * Owns the arguments and results of calls, without types of gRPC or protobuf. Moments are `Date`,
 * durations are milliseconds in a `number`, enums are strings.
 *
 * Several callers may get the same object as their answer: treat it as read-only.
 */

/**
 * The status of a token. `UNSPECIFIED` stands for a status that this version does not know. A token
 * with such a status is not active.
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

/** The kind of a device. */
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
 * The type of an event. `UNSPECIFIED` stands for a type that this version does not know. After such
 * an event, drop everything that you cache.
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

/** Why a token counts as replayed. */
export type ReplayCause =
  | "UNSPECIFIED"
  | "SUPERSEDED_TOKEN"
  | "SECOND_COPY"
  | "LEFT_DEVICE"
  | "REPLACED_SESSION";

/** The service's action after a replay. */
export type ReplayAction = "UNSPECIFIED" | "REVOKE_ALL" | "REVOKE_DEVICE" | "DENY";

/**
 * How safe a change is. `UNSPECIFIED`: nothing was written, or the service is older and does not
 * send this field. `LOCAL`: a failover can lose the change. `REPLICATED`: the change is on as many
 * replicas as the service is set to wait for.
 */
export type Durability = "UNSPECIFIED" | "LOCAL" | "REPLICATED";

/** The facts about a user that each validation returns. Claims never grant permissions. */
export type Claims = Readonly<Record<string, string>>;

/** A name under which a browser is known, and its version: "Google Chrome", "148.0.7778.96". */
export interface ClientBrand {
  readonly name: string;
  readonly version?: string | undefined;
}

/**
 * The values of a browser's `Sec-CH-UA` headers. A field is missing, or empty, if the browser did
 * not send the value.
 */
export interface ClientHints {
  readonly brands?: readonly ClientBrand[] | undefined;
  readonly platform?: string | undefined;
  readonly platformVersion?: string | undefined;
  readonly model?: string | undefined;
  readonly mobile?: boolean | undefined;
  readonly formFactors?: readonly string[] | undefined;
}

/** The place of an end user: a city, and a country as ISO 3166-1 alpha-2 names it ("DE"). */
export interface Place {
  readonly city?: string | undefined;
  readonly countryCode?: string | undefined;
}

/**
 * The facts about the end user's browser or app. They are for display, and decide nothing.
 *
 * A `place` from the app replaces the place that the service finds for the address.
 */
export interface ClientInfo {
  readonly ipAddress?: string | undefined;
  readonly userAgent?: string | undefined;
  readonly displayName?: string | undefined;
  readonly appVersion?: string | undefined;
  readonly clientHints?: ClientHints | undefined;
  readonly place?: Place | undefined;
}

/** A theft alarm about a session on a device. */
export interface DeviceAlarm {
  readonly createTime: Date;
  readonly replayCause: ReplayCause;
}

/**
 * A browser or an app installation of a user. A text is empty if it is not known.
 *
 * `city` and `countryCode` ("DE") say where the device was last seen. `authMethods` are the methods
 * of the sign-in of its live session. `lastAlarm` is the last theft alarm about the device in 28
 * days.
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

/** The name of a session: the fields that identify it, without a token. */
export interface SessionName {
  readonly userId: string;
  readonly deviceId: string;
  readonly sessionId: string;
}

/**
 * A user's session on a device. The session was valid when the service answered. Its methods are
 * those of the sign-in. Its claims are those of the sign-in, or of the last `updateSession`.
 *
 * `expireTime` is when the session ends if it is not used again. `absoluteExpireTime` is when the
 * session ends even if it is used. `absoluteExpireTime` is undefined if the service is older and
 * does not send it.
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
 * The state of a session. `active` is true if the session lives. The expiry times are those of
 * `Session`. They are undefined if the session does not live.
 */
export interface SessionState {
  readonly active: boolean;
  readonly status: SessionStatus;
  readonly expireTime: Date | undefined;
  readonly absoluteExpireTime: Date | undefined;
}

/** A sign-in that has just happened. */
export interface IssuedDevice {
  readonly device: Device;
  readonly accessToken: string;
  readonly tokenExpireTime: Date;
  readonly deviceIdAssigned: boolean;
  readonly newDevice: boolean;
  readonly evictedDevices: readonly Device[];
  readonly durability: Durability;
}

/** The result of a validation. Check `active`: it is true if, and only if, the session is good. */
export type Validation = ActiveValidation | DeniedValidation;

interface AnyValidation {
  readonly status: SessionStatus;
  readonly deviceId: string;
  readonly deviceIdAssigned: boolean;
  readonly renewRecommended: boolean;
  readonly revokedDevices: number;
}

/** The result of a validation whose session is good. */
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
 * The result of a renewal. `active` is true if the session is good. `accessToken` is undefined if
 * the end user's client keeps the token that it has.
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
 * Some of a user's devices, the newest activity first. `nextPageToken` is empty on the last page.
 */
export interface DevicePage {
  readonly devices: readonly Device[];
  readonly nextPageToken: string;
  readonly totalSize: number;
}

/** A public key with which tokens are verified (RFC 7517). */
export interface SigningKey {
  readonly keyId: string;
  readonly algorithm: string;
  readonly jwkJson: string;
}

/** All public keys of the service. `jwksJson` is a JWK set. */
export interface SigningKeys {
  readonly keys: readonly SigningKey[];
  readonly jwksJson: string;
}

/** An event of a session. docs/events.md says which fields are set for which type. */
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
 * Events that came together, and the cursor after them.
 *
 * `readTime` is set in batches that prove that the watch is alive: the watch has sent all events
 * from before this time. `readUptimeMs` is the same moment by a monotonic clock of the server. The
 * difference between two batches of one watch is how much later the server read the second batch.
 */
export interface EventBatch {
  readonly events: readonly Event[];
  readonly cursor: string;
  readonly readTime: Date | undefined;
  readonly readUptimeMs: number | undefined;
}
