/** The state of the fake service, and its clock. Moments are milliseconds since 1970. */

import { randomBytes } from "node:crypto";

import type {
  ClientInfo,
  Event,
  IssueDeviceRequest,
  IssueDeviceResponse,
  ReplayCause,
} from "../gen/session_authority/v1/session_authority_pb.js";

export type Claims = Readonly<Record<string, string>>;

/** A session. Its generation is 1 until its token is renewed. */
export interface FakeSession {
  readonly userId: string;
  readonly deviceId: string;
  readonly sessionId: string;
  readonly authMethods: readonly string[];
  readonly endsAt: number;
  readonly replaced: FakeSession | undefined;
  readonly idleTimeoutMs: number | undefined;
  claims: Claims;
  signedInAt: number;
  generation: number;
  renewedAt: number;
  lastSeenAt: number;
  firstSeenAt: number | undefined;
  toldAt: number | undefined;
  /** The one copy of the current generation that is good. Undefined until it is decided. */
  holder: symbol | undefined;
  /** The one copy of the previous generation that is good. Undefined in generation 1. */
  predecessor: symbol | undefined;
  updatedClaims: Claims | undefined;
  hasNewerClaims: boolean;
}

/** The fields of a new session that its sign-in sets. */
export type NewSession = Pick<
  FakeSession,
  | "userId"
  | "deviceId"
  | "authMethods"
  | "endsAt"
  | "replaced"
  | "idleTimeoutMs"
  | "claims"
  | "signedInAt"
>;

/** Returns a new session. */
export function newSession(begun: NewSession): FakeSession {
  return {
    ...begun,
    sessionId: randomBytes(16).toString("hex"),
    generation: 1,
    renewedAt: begun.signedInAt,
    lastSeenAt: begun.signedInAt,
    firstSeenAt: undefined,
    toldAt: undefined,
    holder: undefined,
    predecessor: undefined,
    updatedClaims: undefined,
    hasNewerClaims: false,
  };
}

/** Returns the time when a session ends if it is not used again. */
export function expiresAt({ endsAt, lastSeenAt, idleTimeoutMs }: FakeSession): number {
  return idleTimeoutMs === undefined ? endsAt : Math.min(endsAt, lastSeenAt + idleTimeoutMs);
}

/**
 * A token that was handed out. Each token is another copy of its generation, unless it is an
 * earlier token that was made once more with newer claims.
 */
export interface FakeToken {
  readonly session: FakeSession;
  readonly generation: number;
  readonly issuedAt: number;
  readonly endsAt: number;
  readonly claims: Claims;
  readonly copy: symbol;
  aged: boolean;
  expired: boolean;
  replayed: boolean;
}

/** A device in a user's list, with its session if the user is signed in there. */
export interface FakeDevice {
  readonly deviceId: string;
  client: ClientInfo;
  createdAt: number;
  signedInAt: number;
  lastSeenAt: number;
  displayName: string;
  session: FakeSession | undefined;
  lastAlarm: { readonly at: number; readonly cause: ReplayCause } | undefined;
}

/**
 * A sign-in that had a `request_id`: the same request, from any browser or app, gets the same
 * response.
 */
export interface FakeSignIn {
  readonly request: IssueDeviceRequest;
  readonly session: FakeSession;
  readonly response: IssueDeviceResponse;
}

/** Everything that the fake service knows. A reset replaces it by a new state. */
export class State {
  readonly devices = new Map<string, Map<string, FakeDevice>>();
  readonly tokens = new Map<string, FakeToken>();
  readonly signIns = new Map<string, FakeSignIn>();
  readonly events: Event[] = [];
  readonly assigned = new Set<string>();
  passedMs = 0;

  /** Returns the time of the fake service. */
  now(): number {
    return Date.now() + this.passedMs;
  }

  /**
   * Converts a moment to the clock of the machine, which no test moves. Apps get times in this
   * form. So after `passTime`, past times are further back and future times are nearer.
   */
  told(moment: number): Date {
    return new Date(moment - this.passedMs);
  }

  devicesOf(userId: string): ReadonlyMap<string, FakeDevice> {
    return this.devices.get(userId) ?? new Map<string, FakeDevice>();
  }

  deviceOf({ userId, deviceId }: FakeSession): FakeDevice | undefined {
    return this.devices.get(userId)?.get(deviceId);
  }

  /** Returns true if the user is signed in on the device. */
  isLive(device: FakeDevice): boolean {
    return device.session !== undefined && this.now() < expiresAt(device.session);
  }

  /** Makes a token of the session's generation. Returns its text and the token. */
  handOut(session: FakeSession, ttlMs: number): [string, FakeToken] {
    const now = this.now();
    return this.#remember({
      session,
      generation: session.generation,
      issuedAt: now,
      endsAt: Math.min(now + ttlMs, session.endsAt),
      claims: session.claims,
      copy: Symbol("copy"),
      aged: false,
      expired: false,
      replayed: false,
    });
  }

  /** Makes the same token with the session's claims. Returns its text and the token. */
  reissue(token: FakeToken): [string, FakeToken] {
    return this.#remember({ ...token, claims: token.session.claims });
  }

  #remember(token: FakeToken): [string, FakeToken] {
    const text = `fake.${randomBytes(16).toString("base64url")}`;
    this.tokens.set(text, token);
    return [text, token];
  }

  /** Ends a user's sessions on all devices except `spared`. Returns how many sessions it ended. */
  endSessions(userId: string, spared = ""): number {
    const live = [...this.devicesOf(userId).values()].filter(
      (device) => this.isLive(device) && device.deviceId !== spared,
    );
    for (const device of live) device.session = undefined;
    return live.length;
  }
}
