/**
 * A Session Authority for the tests of apps: it listens on loopback and keeps everything in memory,
 * without Redis.
 *
 *     const authority = await new FakeAuthority().start();
 *     const client = authority.client();
 *     const { accessToken, device } = await client.issueDevice("ada");
 *     authority.expireTokens();
 *     assert((await client.renewSession(accessToken, device.deviceId)).rotated);
 *
 * It has every method of the contract, and gives the verdicts of the real service with its default
 * settings: use `passTime` to see what becomes of a token after minutes or weeks. It does less than
 * the real service. Tokens are no JWTs, and there are no signing keys. Every caller may do
 * everything. A session has an idle end only if its sign-in sets an idle timeout. The fake does not
 * check the page of a list request, the request of a watch, the reason of a revocation,
 * `currentDeviceId` and `exceptDeviceId`. User agents are not parsed. No event reports that a
 * client presented a token of an ended session. Test these things with `session-authority dev`.
 */

import { SessionAuthority } from "./client.js";
import type { ClientOptions } from "./options.js";
import { LoopbackServer } from "./testing/loopback_server.js";
import { FakeService } from "./testing/service.js";
import type { FakeToken } from "./testing/state.js";
import type { Claims } from "./types.js";

export { webhookHeaders } from "./webhooks.js";

// The default timeout of clients of the fake. It is long because tests run on busy machines.
const PATIENCE_MS = 20_000;

/** Options of a `FakeAuthority`. */
export interface FakeAuthorityOptions {
  /** The life of a token in milliseconds. Default: an hour. */
  readonly tokenTtlMs?: number | undefined;
  /** The service's setting `REPLAY_ALARM`. Default: "presented". */
  readonly replayAlarm?: "presented" | "renewed" | undefined;
}

/** Options of `signIn`. */
export interface FakeSignInOptions {
  /** The facts about the user that the app finds in the session. */
  readonly claims?: Claims | undefined;
  /** How the user proved their identity, such as "pwd". */
  readonly authMethods?: readonly string[] | undefined;
  /** How long ago the user signed in, in milliseconds. The token is new. Default: 0. */
  readonly ageMs?: number | undefined;
}

/**
 * A fake Session Authority. Call `start`. Later call `stop`, or declare the fake with
 * `await using`. Throws RangeError for an unknown `replayAlarm`.
 */
export class FakeAuthority implements AsyncDisposable {
  readonly #service: FakeService;
  readonly #server: LoopbackServer;

  constructor({ tokenTtlMs = 3_600_000, replayAlarm = "presented" }: FakeAuthorityOptions = {}) {
    if (!["presented", "renewed"].includes(replayAlarm)) {
      throw new RangeError("replayAlarm: must be 'presented' or 'renewed'");
    }
    this.#service = new FakeService(tokenTtlMs, replayAlarm === "renewed");
    this.#server = new LoopbackServer(this.#service);
  }

  /** The address at which the fake listens. */
  get address(): string {
    return this.#server.address;
  }

  /**
   * Returns how often a method was called, by its name in the contract. Refused calls count, too.
   */
  calls(method: string): number {
    return this.#service.calls.get(method) ?? 0;
  }

  /** How often a session went on to its next generation. */
  get rotations(): number {
    return this.#service.rotations;
  }

  /** Listens at `address`: at a free port, or at the port that the fake had before. */
  async start(): Promise<this> {
    await this.#server.start();
    return this;
  }

  /** Stops listening and breaks all connections. Users and sessions are kept. */
  stop(): void {
    this.#server.stop();
  }

  /** Stops the fake, as `stop` does. */
  // eslint-disable-next-line @typescript-eslint/require-await -- the interface is asynchronous
  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
  }

  /**
   * Returns a client of the fake. Its default timeout is longer than that of a client of the real
   * service, because tests run on busy machines.
   */
  client(options: ClientOptions = {}): SessionAuthority {
    return new SessionAuthority(this.address, { timeoutMs: PATIENCE_MS, ...options });
  }

  // --- calls for tests --------------------------------------------------------------------------

  /**
   * Forgets every user, and resets the counts, so that one fake can serve many tests. Ends watches
   * with `cursor_expired`.
   */
  reset(): void {
    this.#service.reset();
  }

  /**
   * Signs a user in on a new device that is an app. Returns the headers of its requests.
   *
   * This is for tests of pages behind the sign-in. Tests with cookies and redirects, as browsers
   * have them, need a sign-in through the app. Throws `invalid_request`.
   */
  async signIn(
    userId: string,
    { claims, authMethods, ageMs = 0 }: FakeSignInOptions = {},
  ): Promise<Record<"authorization" | "x-device-id", string>> {
    const issued = await this.#ask((client) => client.issueDevice(userId, { claims, authMethods }));
    const { deviceId } = issued.device;
    const device = this.#service.state.devicesOf(userId).get(deviceId);
    if (device !== undefined) {
      device.createdAt -= ageMs;
      device.signedInAt -= ageMs;
      if (device.session !== undefined) device.session.signedInAt -= ageMs;
    }
    return { authorization: `Bearer ${issued.accessToken}`, "x-device-id": deviceId };
  }

  /**
   * Signs a user out everywhere, as another device or an operator could do it. Returns the number
   * of devices that were signed in.
   */
  async signOut(userId: string): Promise<number> {
    return await this.#ask((client) => client.revokeAll(userId));
  }

  async #ask<T>(question: (client: SessionAuthority) => Promise<T>): Promise<T> {
    const client = this.client();
    try {
      return await question(client);
    } finally {
      client.close();
    }
  }

  // --- faults and the passing of time -----------------------------------------------------------

  /** Runs `work`. Meanwhile the fake answers every call with UNAVAILABLE. */
  async unavailable<T>(work: () => T | Promise<T>): Promise<T> {
    this.#service.isAway = true;
    try {
      return await work();
    } finally {
      this.#service.isAway = false;
    }
  }

  /** Runs `work`. Meanwhile the fake waits `delayMs` milliseconds before each answer. */
  async slow<T>(delayMs: number, work: () => T | Promise<T>): Promise<T> {
    this.#service.delayMs = delayMs;
    try {
      return await work();
    } finally {
      this.#service.delayMs = 0;
    }
  }

  /** Runs `work`. Meanwhile the fake signs no user in on more than `devices` devices. */
  async deviceLimit<T>(devices: number, work: () => T | Promise<T>): Promise<T> {
    this.#service.maxDevices = devices;
    try {
      return await work();
    } finally {
      this.#service.maxDevices = undefined;
    }
  }

  /** Runs `work`. Meanwhile the fake has replicas, which confirm every change or none. */
  async replicas<T>(confirm: boolean, work: () => T | Promise<T>): Promise<T> {
    this.#service.replicasConfirm = confirm;
    try {
      return await work();
    } finally {
      this.#service.replicasConfirm = undefined;
    }
  }

  /**
   * Moves the fake's clock forward by `ms` milliseconds. The times that an app gets are converted
   * to the clock of the machine: sign-ins get older, and expiry times come nearer.
   */
  passTime(ms: number): void {
    this.#service.state.passedMs += ms;
  }

  /** Ages every token: less than half of its life is left, so renewing is recommended. */
  ageTokens(): void {
    this.#each((token) => (token.aged = true));
  }

  /** Expires every token. The sessions go on. */
  expireTokens(): void {
    this.#each((token) => (token.expired = true));
  }

  /**
   * Makes every token count as replayed when it is next presented, if the token's session is still
   * live. With `replayAlarm: "renewed"`, a validation by the token's device gets `SUPERSEDED`.
   */
  replayTokens(): void {
    this.#each((token) => (token.replayed = true));
  }

  #each(change: (token: FakeToken) => void): void {
    for (const token of this.#service.state.tokens.values()) change(token);
  }
}
