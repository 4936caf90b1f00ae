/**
 * Owns the state of the fake service, and its clock. A moment is a number of milliseconds since
 * 1970 by this clock.
 */

import { randomBytes } from "node:crypto";

import type {
  ClientInfo,
  Event,
  IssueDeviceRequest,
  IssueDeviceResponse,
  ReplayCause,
} from "../gen/session_authority/v1/session_authority_pb.js";

export type Claims = Readonly<Record<string, string>>;

/** A session of the fake service. `generation` is 1 until a renewal starts the next generation. */
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
  /**
   * The one copy of the current generation that is good. Undefined while every copy of the current
   * generation is good.
   */
  holder: symbol | undefined;
  /** The one copy of the previous generation that is good. Undefined while the generation is 1. */
  predecessor: symbol | undefined;
  updatedClaims: Claims | undefined;
  hasNewerClaims: boolean;
}

/** The fields of a new session that depend on its sign-in. */
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

/** Returns a new session of generation 1, with a random session ID. */
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

/** Returns the moment at which a session ends if it is not used again. */
export function expiresAt({ endsAt, lastSeenAt, idleTimeoutMs }: FakeSession): number {
  return idleTimeoutMs === undefined ? endsAt : Math.min(endsAt, lastSeenAt + idleTimeoutMs);
}

/**
 * A token that the fake service made. Each token is a new copy of its generation. There is one
 * exception: a token that replaces another token only to bring newer claims is the same copy.
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

/** A device of a user. `session` is undefined if the user is signed out on the device. */
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
 * A stored sign-in that had a `request_id`. A repetition of the same request gets the same
 * response.
 */
export interface FakeSignIn {
  readonly request: IssueDeviceRequest;
  readonly session: FakeSession;
  readonly response: IssueDeviceResponse;
}

/**
 * The users, devices, sessions, tokens and events of the fake service. A reset of the service
 * replaces the state by a new state.
 */
export class State {
  readonly devices = new Map<string, Map<string, FakeDevice>>();
  readonly tokens = new Map<string, FakeToken>();
  readonly signIns = new Map<string, FakeSignIn>();
  readonly events: Event[] = [];
  readonly assigned = new Set<string>();
  passedMs = 0;

  /**
   * Returns the present moment by the clock of the fake service, which `passedMs` moves forward.
   */
  now(): number {
    return Date.now() + this.passedMs;
  }

  /**
   * Converts a moment of the fake clock to a time of the machine's clock, which no test moves. The
   * fake service uses this method for the times of sessions and devices in responses. So after
   * `passTime`, the times of existing sessions in responses are earlier than before.
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

  /** Returns true if the device has a session that has not expired. */
  isLive(device: FakeDevice): boolean {
    return device.session !== undefined && this.now() < expiresAt(device.session);
  }

  /**
   * Makes a new copy of the session's current generation. Returns the text of the token, and the
   * token.
   */
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

  /**
   * Makes a token that differs from the given token only in its text and its claims. The new token
   * has the present claims of the session. Returns the text of the new token, and the new token.
   */
  reissue(token: FakeToken): [string, FakeToken] {
    return this.#remember({ ...token, claims: token.session.claims });
  }

  #remember(token: FakeToken): [string, FakeToken] {
    const text = `fake.${randomBytes(16).toString("base64url")}`;
    this.tokens.set(text, token);
    return [text, token];
  }

  /**
   * Ends a user's sessions on all devices except the device with the ID `spared`. Returns how many
   * live sessions were ended.
   */
  endSessions(userId: string, spared = ""): number {
    const live = [...this.devicesOf(userId).values()].filter(
      (device) => this.isLive(device) && device.deviceId !== spared,
    );
    for (const device of live) device.session = undefined;
    return live.length;
  }
}
