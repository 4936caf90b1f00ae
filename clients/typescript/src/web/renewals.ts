/**
 * Visits that renew one token at the same time share one call. A visit joins only a call that was
 * not sent yet: a renewal that was sent before a request came may not know of a sign-out that this
 * request must not miss.
 */

import type { Renewal } from "../types.js";

/** The renewals of one app. */
export class Renewals {
  readonly #open = new Map<string, Promise<Renewal>>();
  readonly #sent = new Map<string, Promise<Renewal>>();

  /** Returns the answer of the call for a key. Throws what that call throws. */
  share(key: string, call: () => Promise<Renewal>): Promise<Renewal> {
    const open = this.#open.get(key);
    if (open !== undefined) return open;
    const before = this.#sent.get(key);
    const made: Promise<Renewal> = Promise.resolve(before)
      .catch(() => undefined) // its own callers hear of its failure
      .then(() => {
        this.#open.delete(key);
        this.#sent.set(key, made);
        return call();
      })
      .finally(() => {
        if (this.#sent.get(key) === made) this.#sent.delete(key);
      });
    this.#open.set(key, made);
    return made;
  }
}
