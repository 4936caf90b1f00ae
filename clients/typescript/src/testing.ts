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
 * It speaks the whole contract, and gives the verdicts of the real one with its default settings:
 * use `passTime` to see what becomes of a token after minutes or weeks. It knows less: tokens are
 * no JWTs, and there are no signing keys. Every caller may do everything. Sessions have an idle end
 * only if their sign-in asked for one. Pages, watches and optional device IDs are not checked. User
 * agents are not parsed. Nobody is told of an ended token. Test what must be sure of those with
 * `session-authority dev`.
 */

import { SessionAuthority } from "./client.js";
import type { ClientOptions } from "./options.js";
import { LoopbackServer } from "./testing/loopback_server.js";
import { FakeService } from "./testing/service.js";
import type { FakeToken } from "./testing/state.js";
import type { Claims } from "./types.js";

export { webhookHeaders } from "./webhooks.js";

// Tests run on machines that have much else to do.
const PATIENCE_MS = 20_000;

/** Options of a fake. */
export interface FakeAuthorityOptions {
  /** The life of a token. An hour if not given. */
  readonly tokenTtlMs?: number | undefined;
  /** The service's setting `REPLAY_ALARM`. */
  readonly replayAlarm?: "presented" | "renewed" | undefined;
}

/** Options of `signIn`. */
export interface FakeSignInOptions {
  readonly claims?: Claims | undefined;
  readonly authMethods?: readonly string[] | undefined;
  /** How long ago the user signed in. The token is new. */
  readonly ageMs?: number | undefined;
}

/** The server. Start it, and stop it or declare it with `await using`. */
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

  /** Where it listens. */
  get address(): string {
    return this.#server.address;
  }

  /** How often a method was called, by its name in the contract. Refused calls count, too. */
  calls(method: string): number {
    return this.#service.calls.get(method) ?? 0;
  }

  /** How often a session went on to its next generation. */
  get rotations(): number {
    return this.#service.rotations;
  }

  /** Listens at `address`: a free port, or the one that it had before. */
  async start(): Promise<this> {
    await this.#server.start();
    return this;
  }

  /** Hangs up, and remembers everything. */
  stop(): void {
    this.#server.stop();
  }

  /** Hangs up, as `stop` does. */
  // eslint-disable-next-line @typescript-eslint/require-await -- the interface is asynchronous
  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
  }

  /** A client of it. It waits longer than a client of the real service does by itself. */
  client(options: ClientOptions = {}): SessionAuthority {
    return new SessionAuthority(this.address, { timeoutMs: PATIENCE_MS, ...options });
  }

  // --- what tests ask of it ---------------------------------------------------------------------

  /**
   * Forgets every user, and what it counted: for one that serves many tests. Ends watches with
   * `cursor_expired`.
   */
  reset(): void {
    this.#service.reset();
  }

  /**
   * Signs a user in on a new device that is an app. Returns the headers of its requests. Throws
   * `invalid_request`.
   *
   * For tests of what is behind the sign-in. What browsers have, cookies and redirects, needs a
   * sign-in through the app.
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
   * Signs a user out everywhere, as from another device or by an operator. Returns on how many
   * devices.
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

  // --- what may happen to it --------------------------------------------------------------------

  /** While `work` runs, it answers nothing but UNAVAILABLE. */
  async unavailable<T>(work: () => T | Promise<T>): Promise<T> {
    this.#service.isAway = true;
    try {
      return await work();
    } finally {
      this.#service.isAway = false;
    }
  }

  /** While `work` runs, it needs so long for each answer. */
  async slow<T>(delayMs: number, work: () => T | Promise<T>): Promise<T> {
    this.#service.delayMs = delayMs;
    try {
      return await work();
    } finally {
      this.#service.delayMs = 0;
    }
  }

  /** While `work` runs, it signs nobody in on more devices than that. */
  async deviceLimit<T>(devices: number, work: () => T | Promise<T>): Promise<T> {
    this.#service.maxDevices = devices;
    try {
      return await work();
    } finally {
      this.#service.maxDevices = undefined;
    }
  }

  /** While `work` runs, it has replicas, which confirm every change or none. */
  async replicas<T>(confirm: boolean, work: () => T | Promise<T>): Promise<T> {
    this.#service.replicasConfirm = confirm;
    try {
      return await work();
    } finally {
      this.#service.replicasConfirm = undefined;
    }
  }

  /**
   * Its clock goes on by so much. An app is told times by the clock of the machine: sign-ins grow
   * older, and ends come nearer.
   */
  passTime(ms: number): void {
    this.#service.state.passedMs += ms;
  }

  /** Less than half of the life of each token is left: renewing is recommended. */
  ageTokens(): void {
    this.#each((token) => (token.aged = true));
  }

  /** Every token's time is over. The sessions go on. */
  expireTokens(): void {
    this.#each((token) => (token.expired = true));
  }

  /**
   * Every token counts as replayed when it is next presented, on a device that is still signed in.
   */
  replayTokens(): void {
    this.#each((token) => (token.replayed = true));
  }

  #each(change: (token: FakeToken) => void): void {
    for (const token of this.#service.state.tokens.values()) change(token);
  }
}
