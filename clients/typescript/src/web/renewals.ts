/**
 * Lets visits that renew the same token at the same time share one call. A visit joins only a call
 * that was not sent yet. A renewal that was sent before this visit's request may not know of a
 * sign-out that happened before the request.
 */

import type { Renewal } from "../types.js";

/** The renewals of one app. */
export class Renewals {
  readonly #open = new Map<string, Promise<Renewal>>();
  readonly #sent = new Map<string, Promise<Renewal>>();

  /** Returns the result of the call for a key. Rejects as that call does. */
  share(key: string, call: () => Promise<Renewal>): Promise<Renewal> {
    const open = this.#open.get(key);
    if (open !== undefined) return open;
    const before = this.#sent.get(key);
    const made: Promise<Renewal> = Promise.resolve(before)
      .catch(() => undefined) // the callers of the earlier call get its error
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
