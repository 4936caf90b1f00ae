/**
 * Owns `FakeAuthority`, a fake of the service for the tests of apps. The fake listens on loopback,
 * and keeps its state in memory, without Redis. This example renews an expired token:
 *
 *     const authority = await new FakeAuthority().start();
 *     const client = authority.client();
 *     const { accessToken, device } = await client.issueDevice("ada");
 *     authority.expireTokens();
 *     assert((await client.renewSession(accessToken, device.deviceId)).rotated);
 *
 * The fake has every method of the contract. The fake gives the same verdicts on tokens as the real
 * service with default settings. Use `passTime` to test what happens to a token after minutes or
 * weeks. Some parts of the real service are missing. Tokens are no JWTs, and there are no signing
 * keys. Every caller may make every call. A session has an idle end only if its sign-in sets an
 * idle timeout. The fake does not check page tokens, page sizes, the request of a watch, the reason
 * of a revocation, `currentDeviceId` and `exceptDeviceId`. User agents are not parsed. No event
 * reports that a client presented a token of an ended session. To test the missing parts, run the
 * real service with `session-authority dev`.
 */

import { SessionAuthority } from "./client.js";
import type { ClientOptions } from "./options.js";
import { LoopbackServer } from "./testing/loopback_server.js";
import { FakeService } from "./testing/service.js";
import type { FakeToken } from "./testing/state.js";
import type { Claims } from "./types.js";

export { webhookHeaders } from "./webhooks.js";

// The default timeout of the clients that `FakeAuthority.client` returns. This timeout is long
// because tests may run on busy machines.
const PATIENCE_MS = 20_000;

/** Options of a `FakeAuthority`. */
export interface FakeAuthorityOptions {
  /** The life of a token in milliseconds. Default: an hour. */
  readonly tokenTtlMs?: number | undefined;
  /**
   * The value of the service's setting `REPLAY_ALARM`: "presented" or "renewed". Default:
   * "presented".
   */
  readonly replayAlarm?: "presented" | "renewed" | undefined;
}

/** Options of `signIn`. */
export interface FakeSignInOptions {
  /** Facts about the user. The app finds these claims in the session. */
  readonly claims?: Claims | undefined;
  /** How the user proved their identity, such as "pwd". */
  readonly authMethods?: readonly string[] | undefined;
  /**
   * How long ago the user signed in, in milliseconds. The token is new even if the sign-in is old.
   * Default: 0.
   */
  readonly ageMs?: number | undefined;
}

/**
 * A fake Session Authority for tests. Call `start` before the first call. Call `stop` after the
 * tests, or declare the fake with `await using`. The constructor throws RangeError for an unknown
 * `replayAlarm`.
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

  /** The address at which the fake listens: `host:port`. Empty before the first `start`. */
  get address(): string {
    return this.#server.address;
  }

  /**
   * Returns how often a method was called. `method` is the name of the method in the contract, such
   * as "IssueDevice". Calls that the fake refused are included.
   */
  calls(method: string): number {
    return this.#service.calls.get(method) ?? 0;
  }

  /** The number of renewals by which a session got a token of a new generation. */
  get rotations(): number {
    return this.#service.rotations;
  }

  /**
   * Starts to listen. The first start takes a free port, and a later start takes the same port
   * again.
   */
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
   * Creates a client that calls this fake. The client's default timeout is 20 seconds, because
   * tests may run on busy machines.
   */
  client(options: ClientOptions = {}): SessionAuthority {
    return new SessionAuthority(this.address, { timeoutMs: PATIENCE_MS, ...options });
  }

  // --- calls for tests --------------------------------------------------------------------------

  /**
   * Forgets every user, and sets `calls` and `rotations` back to 0, so that one fake can serve many
   * tests. Ends all watches with `cursor_expired`.
   */
  reset(): void {
    this.#service.reset();
  }

  /**
   * Signs a user in on a new device. Returns the headers that an app on this device sends with its
   * requests.
   *
   * Use this method to test pages that need a sign-in. If a test needs cookies and redirects, as a
   * browser has them, sign in through the app's own sign-in page. Throws `invalid_request` if
   * `userId` or a claim breaks a rule.
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
   * Signs a user out on all devices, as an operator could do it. Returns the number of devices on
   * which the user was signed in.
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

  /**
   * Runs `work`, and returns its result. While `work` runs, the fake answers every call with
   * UNAVAILABLE.
   */
  async unavailable<T>(work: () => T | Promise<T>): Promise<T> {
    this.#service.isAway = true;
    try {
      return await work();
    } finally {
      this.#service.isAway = false;
    }
  }

  /**
   * Runs `work`, and returns its result. While `work` runs, the fake waits `delayMs` milliseconds
   * before each answer. Watches are not delayed.
   */
  async slow<T>(delayMs: number, work: () => T | Promise<T>): Promise<T> {
    this.#service.delayMs = delayMs;
    try {
      return await work();
    } finally {
      this.#service.delayMs = 0;
    }
  }

  /**
   * Runs `work`, and returns its result. While `work` runs, the fake refuses a sign-in of a user
   * who is signed in on `devices` other devices already.
   */
  async deviceLimit<T>(devices: number, work: () => T | Promise<T>): Promise<T> {
    this.#service.maxDevices = devices;
    try {
      return await work();
    } finally {
      this.#service.maxDevices = undefined;
    }
  }

  /**
   * Runs `work`, and returns its result. While `work` runs, the fake acts like a service with
   * replicas. The replicas confirm every change if `confirm` is true, and no change if it is false.
   */
  async replicas<T>(confirm: boolean, work: () => T | Promise<T>): Promise<T> {
    this.#service.replicasConfirm = confirm;
    try {
      return await work();
    } finally {
      this.#service.replicasConfirm = undefined;
    }
  }

  /**
   * Moves the fake's clock forward by `ms` milliseconds. The clock of the machine does not move. In
   * answers, the fake converts the times of sessions and devices to the machine's clock. For
   * example, after `passTime(ms)` the sign-in and expiry times of existing sessions are `ms`
   * milliseconds earlier than before.
   */
  passTime(ms: number): void {
    this.#service.state.passedMs += ms;
  }

  /**
   * Makes every token count as older than half of its life. The next validation of a token then has
   * `renewRecommended`.
   */
  ageTokens(): void {
    this.#each((token) => (token.aged = true));
  }

  /** Makes every token count as expired. The sessions still live. */
  expireTokens(): void {
    this.#each((token) => (token.expired = true));
  }

  /**
   * Makes every token of a live session count as replayed. A token is judged when it is presented
   * the next time. With the option `replayAlarm: "renewed"`, a validation from the token's own
   * device gets the status `SUPERSEDED` in place of `REPLAYED`.
   */
  replayTokens(): void {
    this.#each((token) => (token.replayed = true));
  }

  #each(change: (token: FakeToken) => void): void {
    for (const token of this.#service.state.tokens.values()) change(token);
  }
}
