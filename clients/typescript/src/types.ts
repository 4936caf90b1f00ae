/**
 * Owns what goes in and comes out: plain values, without anything of gRPC or protobuf. Moments are
 * `Date`, durations are milliseconds in a `number`, enums are texts.
 *
 * An answer may be shared by many callers: treat it as read-only.
 */

/** What a token is worth. `UNSPECIFIED` is one that this version does not know: not active. */
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

/** What kind of thing a device is. */
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
 * What happened. `UNSPECIFIED` is something that this version does not know: drop whatever you
 * cache.
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

/** What was done about a replay. */
export type ReplayAction = "UNSPECIFIED" | "REVOKE_ALL" | "REVOKE_DEVICE" | "DENY";

/**
 * How safe a change is. `UNSPECIFIED`: nothing was written, or an older service does not tell.
 * `LOCAL`: a failover can lose it. `REPLICATED`: it is on as many replicas as the service is set to
 * wait for.
 */
export type Durability = "UNSPECIFIED" | "LOCAL" | "REPLICATED";

/** What an app wants to find in each validation. Claims never grant permissions. */
export type Claims = Readonly<Record<string, string>>;

/** A name under which a browser is known, and its version: "Google Chrome", "148.0.7778.96". */
export interface ClientBrand {
  readonly name: string;
  readonly version?: string | undefined;
}

/** What a browser says in its `Sec-CH-UA` headers. A field that is missing was not said. */
export interface ClientHints {
  readonly brands?: readonly ClientBrand[] | undefined;
  readonly platform?: string | undefined;
  readonly platformVersion?: string | undefined;
  readonly model?: string | undefined;
  readonly mobile?: boolean | undefined;
  readonly formFactors?: readonly string[] | undefined;
}

/** Where an end user is: a city, and a country as ISO 3166-1 alpha-2 names it ("DE"). */
export interface Place {
  readonly city?: string | undefined;
  readonly countryCode?: string | undefined;
}

/**
 * What is known of the end user's browser or app. It is only shown: nothing is decided by it.
 *
 * A `place` that an app gives goes before the one that the service has for the address.
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
 * A browser or an app installation of a user. Texts are empty where nothing is known.
 *
 * `city` and `countryCode` ("DE") say where it was last seen. `authMethods` are those of the
 * sign-in of its live session. `lastAlarm` is the last theft alarm about it in 28 days.
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

/** Names a session, as `Session` does, without a token of it. */
export interface SessionName {
  readonly userId: string;
  readonly deviceId: string;
  readonly sessionId: string;
}

/**
 * A sign-in of a user on a device that is still good. Its claims and methods are as they were given
 * at sign-in.
 *
 * `expireTime` is when the session ends if it is not used again, `absoluteExpireTime` when it ends
 * however much it is used. An older service does not tell the latter.
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

/** Whether a session lives. The ends are those of `Session`; there are none if it does not live. */
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

/** Whether a request comes from the user and the device that it names. */
export type Validation = ActiveValidation | DeniedValidation;

interface AnyValidation {
  readonly status: SessionStatus;
  readonly deviceId: string;
  readonly deviceIdAssigned: boolean;
  readonly renewRecommended: boolean;
  readonly revokedDevices: number;
}

/** The session is good. */
export interface ActiveValidation extends AnyValidation {
  readonly active: true;
  readonly status: "ACTIVE";
  readonly session: Session;
}

/** There is no good session. */
export interface DeniedValidation extends AnyValidation {
  readonly active: false;
  readonly session: undefined;
}

/**
 * What renewing a token led to. There is no `accessToken` if the client keeps the one that it has.
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

/** Some of a user's devices, newest activity first. The last page has no `nextPageToken`. */
export interface DevicePage {
  readonly devices: readonly Device[];
  readonly nextPageToken: string;
  readonly totalSize: number;
}

/** A public key that tokens verify with (RFC 7517). */
export interface SigningKey {
  readonly keyId: string;
  readonly algorithm: string;
  readonly jwkJson: string;
}

/** All public keys; `jwksJson` is a JWK set. */
export interface SigningKeys {
  readonly keys: readonly SigningKey[];
  readonly jwksJson: string;
}

/** Something that happened to a session. docs/events.md says which fields are set when. */
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
 * Events that came together, and where to go on after them.
 *
 * `readTime` is set in proofs of life: all that happened before it has been told. `readUptimeMs` is
 * the same moment by a clock of the server that nobody sets: the difference between two batches of
 * one watch is how much later the second was read.
 */
export interface EventBatch {
  readonly events: readonly Event[];
  readonly cursor: string;
  readonly readTime: Date | undefined;
  readonly readUptimeMs: number | undefined;
}
