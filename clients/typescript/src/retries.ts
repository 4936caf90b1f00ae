/**
 * Decides whether a failed attempt of a call is retried, and after which pause.
 *
 * Retries are safe for every method of the contract. For example, two calls of IssueDevice with the
 * same `request_id` make one sign-in, and this client always sends a `request_id`. Two renewals
 * with the same token count as one renewal. A second update with the same claims changes nothing.
 */

const CANCELLED = 1;
const UNAVAILABLE = 14;

// A server that stops may answer CANCELLED to a call that arrives in its last milliseconds. A call
// that gets CANCELLED is retried after 20 ms. If the retry gets CANCELLED, too, the call is retried
// after 100 ms.
const DROPPED_PAUSES_MS = [20, 100] as const;
const MAX_ATTEMPTS = 3;
const FIRST_BACKOFF_MS = 20;
const MAX_BACKOFF_MS = 200;
// `RetryThrottle` has tokens, at most 20. A failed attempt costs one token, and a successful call
// adds 0.1 tokens. If ten tokens or fewer are left, a call that failed with UNAVAILABLE is not
// retried: retries could keep an overloaded service from recovering.
const MAX_TOKENS = 20;
const TOKENS_OF_SUCCESS = 0.1;

/**
 * Counts the successes and failures of one client's calls, so that a service that keeps failing
 * gets no retries.
 */
export class RetryThrottle {
  #tokens = MAX_TOKENS;

  /** Notes that a call succeeded. */
  succeeded(): void {
    this.#tokens = Math.min(this.#tokens + TOKENS_OF_SUCCESS, MAX_TOKENS);
  }

  /** Notes that an attempt failed with UNAVAILABLE. Returns true if a retry is allowed. */
  failed(): boolean {
    this.#tokens = Math.max(this.#tokens - 1, 0);
    return this.#tokens > MAX_TOKENS / 2;
  }
}

/** Counts the failed attempts of one call, and chooses the pauses between them. */
export class Retries {
  #unavailable = 0;
  #dropped = 0;

  constructor(private readonly throttle: RetryThrottle) {}

  /**
   * Notes that an attempt failed with this gRPC status code. Returns how many milliseconds to wait
   * before the next attempt. Returns undefined if the call must not be retried.
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
