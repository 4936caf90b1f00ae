/**
 * Limits how many calls a client has under way at once. This module counts the free slots and keeps
 * the queue of callers. This module makes no calls and has no timers.
 */

import type { SessionAuthorityError } from "./errors.js";
import { clientClosed, unavailable } from "./failures.js";

/**
 * The default of `maxInFlight`. This default is well below the service's limit for one connection,
 * `MAX_PER_CONNECTION` (default 100), because the service's limit also includes watches.
 */
export const MAX_IN_FLIGHT = 64;

/**
 * A function that the limiter calls once, when a slot is free or when the limiter is closed. When a
 * slot is free, the function gets no error, and returns true if it accepts the slot. When the
 * limiter is closed, the function gets an `unavailable` error.
 */
export type Granted = (error?: SessionAuthorityError) => boolean;

/**
 * Owns the slots of one client, and the queue of the callers that wait for a slot, in the order of
 * arrival.
 */
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

  /** Acquires a slot if one is free. Returns false if all slots are in use. */
  tryAcquire(): boolean {
    if (this.#free === 0) return false;
    this.#free -= 1;
    return true;
  }

  /**
   * Acquires a slot if one is free, and returns true. If no slot is free, puts `granted` into the
   * queue and returns false. If the limiter is closed, calls `granted` with an `unavailable` error
   * and returns false.
   */
  acquireOrQueue(granted: Granted): boolean {
    if (this.closed) {
      granted(clientClosed());
      return false;
    }
    if (this.tryAcquire()) return true;
    this.#queue.add(granted);
    return false;
  }

  /** Releases a slot. The slot goes to the first caller in the queue that accepts it. */
  release(): void {
    for (const granted of this.#queue) {
      this.#queue.delete(granted);
      if (granted()) return;
    }
    this.#free += 1;
  }

  /** Removes a caller from the queue, because the caller no longer waits for a slot. */
  withdraw(granted: Granted): void {
    this.#queue.delete(granted);
  }

  /**
   * Closes the limiter: fails all callers in the queue, and lets no further caller into the queue.
   */
  close(): void {
    this.closed = true;
    const queue = [...this.#queue];
    this.#queue.clear();
    for (const granted of queue) granted(clientClosed());
  }

  /** Returns the error of a caller that got no slot before its timeout was over. */
  timedOut(): SessionAuthorityError {
    const calls = `${String(this.#slots)} calls of this client are under way (maxInFlight)`;
    return unavailable(`there was no slot in time: ${calls}`, "DEADLINE_EXCEEDED");
  }
}
