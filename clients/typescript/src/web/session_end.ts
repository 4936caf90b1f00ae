/**
 * Calls listeners when the session of a visit ends: the listeners of the app, and a listener of the
 * middleware that ends the connection.
 */

import { isUnavailable } from "../errors.js";
import type { Session } from "../types.js";

/**
 * Adds a listener that is called when the session ends. Returns a function that removes the
 * listener.
 */
export type Listen = (session: Session, listener: () => void) => () => void;

/** Owns the listeners that are called when the session of one visit ends. */
export class SessionEnd {
  readonly #listen: Listen;
  readonly #stops: (() => void)[] = [];
  #hangUp: (() => void) | undefined;
  #stopHangingUp: (() => void) | undefined;
  #keepsOpen = false;
  #isOver = false;

  constructor(listen: Listen) {
    this.#listen = listen;
  }

  /**
   * True if the app added a listener. The value stays true until the connection is over, even if
   * the listener was removed or called.
   */
  get isHeard(): boolean {
    return this.#stops.length > 0;
  }

  /**
   * Adds a listener of the app that is called when the session ends. After the connection is over,
   * the listener is not called. Returns a function that removes the listener.
   */
  listen(session: Session, listener: () => void): () => void {
    if (this.#isOver) return () => undefined;
    const stop = this.#listen(session, listener);
    this.#stops.push(stop);
    return stop;
  }

  /**
   * Sets `hangUp`, the function of the middleware that ends the connection. The end of the session
   * calls `hangUp` if the app uses the session, before or after this call, unless `keepOpen` was
   * called. `lookedAt` is the session if the app has already used the session, else undefined.
   */
  hangUpWith(hangUp: () => void, lookedAt: Session | undefined): void {
    if (this.#isOver) return;
    this.#hangUp = hangUp;
    this.look(lookedAt);
  }

  /**
   * Notes that the app uses the session. If `hangUp` is set, the end of the session calls `hangUp`
   * from now on, unless `keepOpen` was called.
   */
  look(session: Session | undefined): void {
    if (session === undefined || this.#hangUp === undefined || this.#keepsOpen) return;
    if (this.#stopHangingUp !== undefined) return;
    try {
      this.#stopHangingUp = this.#listen(session, this.#hangUp);
    } catch (error) {
      // The client is closed, so nothing can report the end of the session.
      if (!isUnavailable(error)) throw error;
    }
  }

  /** Keeps the middleware from ending the connection when the session ends. */
  keepOpen(): void {
    this.#keepsOpen = true;
    this.#stop();
  }

  /**
   * Removes all listeners, because the connection is over. A listener that is added later is never
   * called.
   */
  leave(): void {
    this.#isOver = true;
    this.#stop();
    this.#hangUp = undefined;
    for (const stop of this.#stops.splice(0)) stop();
  }

  #stop(): void {
    this.#stopHangingUp?.();
    this.#stopHangingUp = undefined;
  }
}
