/**
 * Who hears of the end of one visit's session: the app's callbacks, and the middleware that then
 * ends the connection.
 */

import { isUnavailable } from "../errors.js";
import type { Session } from "../types.js";

/** Has a listener called when a session has ended. Returns a function that stops that. */
export type Listen = (session: Session, listener: () => void) => () => void;

/** What hangs on the end of one visit's session. */
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

  /** Whether a callback of the app waits for the end. */
  get isHeard(): boolean {
    return this.#stops.length > 0;
  }

  /** Has a listener called, until the connection is over. Returns a function that stops that. */
  listen(session: Session, listener: () => void): () => void {
    if (this.#isOver) return () => undefined;
    const stop = this.#listen(session, listener);
    this.#stops.push(stop);
    return stop;
  }

  /** Has the middleware end the connection. `lookedAt` is the session if the app looked at it. */
  hangUpWith(hangUp: () => void, lookedAt: Session | undefined): void {
    if (this.#isOver) return;
    this.#hangUp = hangUp;
    this.look(lookedAt);
  }

  /** The app looks at the session: from now on its response depends on that. */
  look(session: Session | undefined): void {
    if (session === undefined || this.#hangUp === undefined || this.#keepsOpen) return;
    if (this.#stopHangingUp !== undefined) return;
    try {
      this.#stopHangingUp = this.#listen(session, this.#hangUp);
    } catch (error) {
      // The client is closed: the connection is not known to end.
      if (!isUnavailable(error)) throw error;
    }
  }

  /** The middleware is not to end the connection. */
  keepOpen(): void {
    this.#keepsOpen = true;
    this.#stop();
  }

  /** The connection is over. What is asked for later would never be stopped: nothing hears. */
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
