/**
 * Log lines about a state that lasts, such as an outage: one line when the state is noticed, and at
 * most one line a minute, not one for each request.
 */

import type { WebLog } from "./settings.js";

const MS_BETWEEN = 60_000;

/** Writes the lines of one app. */
export class ThrottledLog {
  readonly #log: WebLog;
  readonly #now: () => number;
  readonly #next = new Map<string, number>();

  constructor(log: WebLog, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  /** Writes a line, unless one with this text was written within the last minute. */
  error(text: string, detail: string): void {
    const now = this.#now();
    if (now < (this.#next.get(text) ?? now)) return;
    this.#next.set(text, now + MS_BETWEEN);
    this.#log.error(`${text}: ${detail}`);
  }
}
