/**
 * Limits how many calls a client has under way at once. This module has the count and the queue. It
 * waits for nothing and sends nothing.
 */

import type { SessionAuthorityError } from "./errors.js";
import { clientClosed, unavailable } from "./failures.js";

/**
 * The default of `maxInFlight`. It is well below the service's MAX_PER_CONNECTION (100): watches
 * count there, too.
 */
export const MAX_IN_FLIGHT = 64;

/**
 * A function that is called once. It is called without an error when a slot is free, and returns
 * true if it accepts the slot. Or it is called with the reason why there will never be a slot.
 */
export type Granted = (error?: SessionAuthorityError) => boolean;

/** The slots of one client, and the queue for them, in the order of arrival. */
export class Limiter {
  readonly #slots: number;
  readonly #queue = new Set<Granted>();
  #free: number;
  closed = false;

  constructor(maxInFlight: number) {
    if (!Number.isInteger(maxInFlight) || maxInFlight < 1) {
      throw new RangeError("maxInFlight: a whole number, at least 1");
    }
    this.#slots = this.#free = maxInFlight;
  }

  /** Acquires a slot if one is free. Returns false if all are in use. */
  tryAcquire(): boolean {
    if (this.#free === 0) return false;
    this.#free -= 1;
    return true;
  }

  /** Acquires a slot, or queues for one. Returns true if the slot was acquired at once. */
  acquireOrQueue(granted: Granted): boolean {
    if (this.closed) {
      granted(clientClosed());
      return false;
    }
    if (this.tryAcquire()) return true;
    this.#queue.add(granted);
    return false;
  }

  /** Gives the slot to the caller that has waited longest and still accepts it. */
  release(): void {
    for (const granted of this.#queue) {
      this.#queue.delete(granted);
      if (granted()) return;
    }
    this.#free += 1;
  }

  /** Removes a caller that gave up from the queue. */
  withdraw(granted: Granted): void {
    this.#queue.delete(granted);
  }

  /** Grants no more slots, and fails all callers in the queue. */
  close(): void {
    this.closed = true;
    const queue = [...this.#queue];
    this.#queue.clear();
    for (const granted of queue) granted(clientClosed());
  }

  /** Returns the error of a caller whose time was over before a slot was free. */
  timedOut(): SessionAuthorityError {
    const calls = `${String(this.#slots)} calls of this client are under way (maxInFlight)`;
    return unavailable(`there was no slot in time: ${calls}`, "DEADLINE_EXCEEDED");
  }
}
