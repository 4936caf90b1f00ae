/**
 * Asks the service whether the sessions of open connections still live. One loop checks all
 * sessions of a client.
 */

import { create } from "@bufbuild/protobuf";

import type { NearCache } from "./cache.js";
import type { Calls } from "./calls.js";
import { SessionAuthorityError } from "./errors.js";
import { clientClosed, unavailable } from "./failures.js";
import {
  CheckSessionsRequestSchema,
  SessionAuthorityService,
} from "./gen/session_authority/v1/session_authority_pb.js";
import { stateItem } from "./items.js";
import { OpenSessions, type Round } from "./open_sessions.js";
import type { Session } from "./types.js";

// The timeout of a call of CheckSessions. No end user waits for this call, so its timeout may be
// longer than the default timeout.
const CHECK_MS = 2_000;

/** Calls the listeners of open connections when the sessions of these connections have ended. */
export class Endings {
  readonly sessions: OpenSessions;
  readonly #calls: Calls;
  #timer: NodeJS.Timeout | undefined;
  #asks = false;
  #closed = false;

  constructor(calls: Calls, cache: NearCache | undefined, log: (message: string) => void) {
    this.#calls = calls;
    this.sessions = new OpenSessions({ cache, wake: this.#wake, log });
  }

  /**
   * Calls the listener once when the session has ended. Returns a function that removes the
   * listener. Throws an `unavailable` error if the client is closed.
   */
  listen(session: Session, listener: () => void): () => void {
    if (this.#closed) throw clientClosed();
    return this.sessions.listen(session, listener);
  }

  /**
   * Stops the checks. Calls no listener, because the client no longer learns whether sessions end.
   */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  readonly #wake = (): void => {
    if (this.#closed || this.#asks) return;
    clearTimeout(this.#timer);
    const ms = this.sessions.msUntilDue();
    if (ms === undefined) return;
    this.#timer = setTimeout(() => void this.#askWhileDue(), ms);
  };

  async #askWhileDue(): Promise<void> {
    this.#asks = true;
    for (;;) {
      const asked = this.#closed ? undefined : this.sessions.takeDue();
      if (asked === undefined) break;
      await this.#ask(asked);
    }
    this.#asks = false;
    this.#wake();
  }

  async #ask(asked: Round): Promise<void> {
    const { checkSessions } = SessionAuthorityService.method;
    const names = asked.sessions.map(({ name }) => name);
    const request = create(CheckSessionsRequestSchema, { sessions: names });
    try {
      const limits = { timeoutMs: CHECK_MS, signal: undefined };
      const { results } = await this.#calls.make(checkSessions, request, limits);
      this.sessions.answered(asked, results.map(stateItem));
    } catch (error) {
      const known = error instanceof SessionAuthorityError;
      this.sessions.unanswered(asked, known ? error : unavailable("unknown", "UNKNOWN"));
    }
  }
}
