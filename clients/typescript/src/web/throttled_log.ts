/**
 * Writes log lines about a problem that lasts, such as an outage. The log gets a line when the
 * problem begins, and then at most one line a minute, not a line for each request.
 */

import type { WebLog } from "./settings.js";

const MS_BETWEEN = 60_000;

/** Writes the throttled log lines of one app. */
export class ThrottledLog {
  readonly #log: WebLog;
  readonly #now: () => number;
  readonly #next = new Map<string, number>();

  constructor(log: WebLog, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  /** Writes a line, unless a line with the same `text` was written within the last minute. */
  error(text: string, detail: string): void {
    const now = this.#now();
    if (now < (this.#next.get(text) ?? now)) return;
    this.#next.set(text, now + MS_BETWEEN);
    this.#log.error(`${text}: ${detail}`);
  }
}
