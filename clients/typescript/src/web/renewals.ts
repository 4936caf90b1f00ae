/**
 * Lets visits that renew the same token at the same time share one call to the service. A visit
 * joins only a call that is not sent yet. A call that was sent earlier may not know of a sign-out
 * that happened before this visit's request.
 */

import type { Renewal } from "../types.js";

/** Shares the renewal calls of one app's visits. */
export class Renewals {
  readonly #open = new Map<string, Promise<Renewal>>();
  readonly #sent = new Map<string, Promise<Renewal>>();

  /**
   * Resolves to the result of `call`. If an earlier call with the same key is not sent yet,
   * resolves to the result of the earlier call, and does not make `call`. Rejects if the call
   * fails.
   */
  share(key: string, call: () => Promise<Renewal>): Promise<Renewal> {
    const open = this.#open.get(key);
    if (open !== undefined) return open;
    const before = this.#sent.get(key);
    const made: Promise<Renewal> = Promise.resolve(before)
      .catch(() => undefined) // only the callers of the earlier call get its error
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
