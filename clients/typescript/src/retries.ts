/**
 * Decides whether a call that failed is retried, and after which pause.
 *
 * Retries are safe for every method. IssueDevice always has a `request_id`. Two renewals with the
 * same token count as one renewal. A second update with the same claims changes nothing.
 */

const CANCELLED = 1;
const UNAVAILABLE = 14;

// A server that stops may answer a call with CANCELLED, if the call arrives within the last
// milliseconds. Such a call is retried after each of these pauses.
const DROPPED_PAUSES_MS = [20, 100] as const;
const MAX_ATTEMPTS = 3;
const FIRST_BACKOFF_MS = 20;
const MAX_BACKOFF_MS = 200;
// After ten failures without successes there are no retries: retries must not keep a service down.
const MAX_TOKENS = 20;
const TOKENS_OF_SUCCESS = 0.1;

/** Counts the successes and failures of one client, so that a failing service gets no retries. */
export class RetryThrottle {
  #tokens = MAX_TOKENS;

  /** Notes that a call succeeded. */
  succeeded(): void {
    this.#tokens = Math.min(this.#tokens + TOKENS_OF_SUCCESS, MAX_TOKENS);
  }

  /** Notes that an attempt failed. Returns true if a retry is allowed. */
  failed(): boolean {
    this.#tokens = Math.max(this.#tokens - 1, 0);
    return this.#tokens > MAX_TOKENS / 2;
  }
}

/** The retries of one call. */
export class Retries {
  #unavailable = 0;
  #dropped = 0;

  constructor(private readonly throttle: RetryThrottle) {}

  /**
   * Notes that an attempt failed with this gRPC status code. Returns how many milliseconds to wait
   * before the next attempt, or undefined if there must be no other attempt.
   */
  pauseMs(code: number, random: () => number = Math.random): number | undefined {
    if (code === CANCELLED) {
      const pause = DROPPED_PAUSES_MS[this.#dropped];
      this.#dropped += 1;
      return pause;
    }
    if (code !== UNAVAILABLE) return undefined;
    this.#unavailable += 1;
    if (!this.throttle.failed() || this.#unavailable >= MAX_ATTEMPTS) return undefined;
    const longest = Math.min(FIRST_BACKOFF_MS * 2 ** (this.#unavailable - 1), MAX_BACKOFF_MS);
    return longest * random();
  }
}
