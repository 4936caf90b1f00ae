/**
 * Calls the app's callbacks when the session of one visit ends, and the middleware's callback,
 * which ends the connection.
 */

import { isUnavailable } from "../errors.js";
import type { Session } from "../types.js";

/** Calls a listener when a session has ended. Returns a function that removes the listener. */
export type Listen = (session: Session, listener: () => void) => () => void;

/** The actions at the end of one visit's session. */
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
   * True if the app added a callback. It stays true until the connection is over, even if the
   * callback was removed or called before.
   */
  get isHeard(): boolean {
    return this.#stops.length > 0;
  }

  /**
   * Calls a listener when the session ends, until the connection is over. Returns a function that
   * removes the listener.
   */
  listen(session: Session, listener: () => void): () => void {
    if (this.#isOver) return () => undefined;
    const stop = this.#listen(session, listener);
    this.#stops.push(stop);
    return stop;
  }

  /**
   * Calls `hangUp` of the middleware when the session ends, if the app uses the session before or
   * after this call. `lookedAt` is the session if the app has used the session already.
   */
  hangUpWith(hangUp: () => void, lookedAt: Session | undefined): void {
    if (this.#isOver) return;
    this.#hangUp = hangUp;
    this.look(lookedAt);
  }

  /** Notes that the app uses the session: from now on its response depends on the session. */
  look(session: Session | undefined): void {
    if (session === undefined || this.#hangUp === undefined || this.#keepsOpen) return;
    if (this.#stopHangingUp !== undefined) return;
    try {
      this.#stopHangingUp = this.#listen(session, this.#hangUp);
    } catch (error) {
      // The client is closed, so nothing reports the end of the session.
      if (!isUnavailable(error)) throw error;
    }
  }

  /** Keeps the middleware from ending the connection. */
  keepOpen(): void {
    this.#keepsOpen = true;
    this.#stop();
  }

  /** Removes all listeners, because the connection is over. Later listeners are never called. */
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
