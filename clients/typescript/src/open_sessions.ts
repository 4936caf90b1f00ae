/**
 * The sessions of open connections: which of them to check, when to check them, and which listeners
 * to call.
 *
 * This module has the memory and its rules. It waits for nothing and sends nothing. While a near
 * cache has a live watch, events report that a session may have ended. Else each session is checked
 * once in an interval. A session has ended if the service's answer or an event says that the
 * session has ended, or if an outage goes on past the session's absolute end. An outage alone is no
 * sign-out.
 */

import { MAX_AGE_MS, type NearCache, type Ticket } from "./cache.js";
import type { SessionAuthorityError, StatusCode } from "./errors.js";
import { unavailable } from "./failures.js";
import {
  type Event,
  EventType,
  type WatchEventsResponse,
} from "./gen/session_authority/v1/session_authority_pb.js";
import type { Session, SessionName, SessionState } from "./types.js";

/** The contract's limit for one CheckSessions. */
export const MAX_NAMES = 500;
// An event of these types names the one session that it ended. Session IDs are never used again.
const ENDS_ONE: ReadonlySet<EventType> = new Set([
  EventType.DEVICE_REVOKED,
  EventType.DEVICE_EVICTED,
]);
const ENDS_NONE: ReadonlySet<EventType> = new Set([
  EventType.ENDED_TOKEN_PRESENTED,
  EventType.SUPERSEDED_TOKEN_PRESENTED,
]);
// Sessions that are due within the same part of an interval are checked in one call.
const ROUNDS_PER_INTERVAL = 60;
// The shortest time between two checks of a session whose end is past by this machine's clock only.
const MIN_PAUSE_MS = 1_000;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;
// When a watch breaks, the next watch usually starts at once. So the sessions are checked a little
// later, after this time at the most. If the next watch is live by then, one check is enough.
const WATCH_AGAIN_MS = 1_000;
// Another check at once would not help: the service is too old, or refuses this caller.
const LASTING: ReadonlySet<StatusCode> = new Set([
  "UNIMPLEMENTED",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
]);

/** A session, the listeners for its end, and the time of its next check. */
export interface OpenSession {
  readonly name: SessionName;
  /** When the session ends however much it is used, in milliseconds of the wall clock. */
  absoluteEnd: number;
  listeners: (() => void)[];
  /** When the next check is due, in milliseconds of the steady clock. */
  due: number;
}

/** The sessions that one call checks. `ticket` is the moment of the call for the cache. */
export interface Round {
  readonly sessions: readonly OpenSession[];
  readonly sent: number;
  readonly ticket: Ticket | undefined;
}

/** The parts of a client that its open sessions use. */
export interface OpenSessionsParts {
  readonly cache: NearCache | undefined;
  /** This function is called when a check may be due earlier than `msUntilDue` said. */
  readonly wake: () => void;
  readonly log: (message: string) => void;
  readonly now?: () => number;
  readonly wall?: () => number;
}

/** The open sessions of one client. */
export class OpenSessions {
  readonly #parts: OpenSessionsParts;
  readonly #now: () => number;
  readonly #wall: () => number;
  readonly #intervalMs: number;
  readonly #ofUser = new Map<string, Map<string, OpenSession>>();
  /** No check is due earlier than this. The next check may be later, if a session was dropped. */
  #earliest = Infinity;
  #failures = 0;
  #logged = "";

  constructor(parts: OpenSessionsParts) {
    this.#parts = parts;
    this.#now = parts.now ?? (() => performance.now());
    this.#wall = parts.wall ?? Date.now;
    this.#intervalMs = parts.cache?.maxSilenceMs ?? MAX_AGE_MS;
  }

  // --- for connections --------------------------------------------------------------------------

  /**
   * Calls the listener once when the session has ended. Returns a function that removes the
   * listener.
   */
  listen(session: Session, listener: () => void): () => void {
    const { userId, deviceId, sessionId } = session;
    const known = this.#ofUser.get(userId) ?? new Map<string, OpenSession>();
    this.#ofUser.set(userId, known);
    let opened = known.get(sessionId);
    if (opened === undefined) {
      const vouched = this.#parts.cache?.vouchesFor(session) ?? false;
      opened = {
        name: { userId, deviceId, sessionId },
        absoluteEnd: session.absoluteExpireTime?.getTime() ?? Infinity,
        listeners: [],
        due: Infinity,
      };
      this.#plan(opened, vouched ? this.#atEnd(session.expireTime) : this.#now());
      known.set(sessionId, opened);
    }
    const once = () => {
      listener();
    };
    opened.listeners.push(once);
    this.#parts.wake();
    const stopped = opened;
    return () => {
      this.#stop(stopped, once);
    };
  }

  /**
   * Removes a listener. A session without listeners is kept until its next check is due, because
   * another listener may come at once.
   */
  #stop(opened: OpenSession, listener: () => void): void {
    opened.listeners = opened.listeners.filter((known) => known !== listener);
    if (opened.listeners.length === 0) {
      this.#plan(opened, this.#now() + this.#intervalMs);
      this.#parts.wake();
    }
  }

  // --- for the watch ----------------------------------------------------------------------------

  /** Handles the events of a watch. The cache has handled them before. */
  tell(message: WatchEventsResponse): void {
    if (message.events.length === 0 || this.#ofUser.size === 0) return;
    const ended: OpenSession[] = [];
    for (const event of message.events) {
      for (const opened of this.#concerned(event)) {
        if (ENDS_ONE.has(event.type) && event.sessionId !== "") {
          if (event.sessionId === opened.name.sessionId) ended.push(this.#drop(opened));
        } else if (mayEnd(event, opened.name)) {
          this.#plan(opened, this.#now());
        }
      }
    }
    this.#tell(ended);
    this.#parts.wake();
  }

  #concerned(event: Event): OpenSession[] {
    if (event.userId !== "") return [...(this.#ofUser.get(event.userId)?.values() ?? [])];
    // The tokens of a revoked key are worthless, but no session has ended.
    return event.type === EventType.SIGNING_KEY_REVOKED ? [] : this.#all();
  }

  /**
   * Plans checks of all sessions, because the watch is broken. Call this after the cache's `lost`.
   * `leftMs` is how much longer the watch could have been silent before it counted as broken.
   */
  lost(leftMs: number): void {
    const due = this.#now() + Math.min(leftMs, WATCH_AGAIN_MS) * (0.5 + Math.random() / 2);
    for (const opened of this.#all()) this.#plan(opened, due);
    this.#parts.wake();
  }

  /** Plans checks of a user's sessions, because this client has changed some, or tried to. */
  doubt(userId: string): void {
    for (const opened of this.#ofUser.get(userId)?.values() ?? []) this.#plan(opened, this.#now());
    this.#parts.wake();
  }

  // --- for the checks ---------------------------------------------------------------------------

  /**
   * Returns the milliseconds until the next check may be due. Returns undefined if no session is
   * open. This method does not iterate over the sessions, because it runs whenever a connection
   * opens or closes.
   */
  msUntilDue(): number | undefined {
    if (this.#ofUser.size === 0) return undefined;
    return Math.max(Math.min(this.#earliest - this.#now(), this.#intervalMs), 0);
  }

  /** Returns the sessions whose checks are due now. Returns undefined if there is none. */
  takeDue(): Round | undefined {
    const ticket = this.#parts.cache?.ticket();
    const now = this.#now();
    const sessions: OpenSession[] = [];
    this.#earliest = Infinity;
    for (const opened of this.#all()) {
      if (opened.due > now || sessions.length === MAX_NAMES) {
        this.#earliest = Math.min(this.#earliest, opened.due);
        continue;
      }
      opened.due = Infinity;
      if (opened.listeners.length > 0) sessions.push(opened);
      else this.#drop(opened);
    }
    return sessions.length === 0 ? undefined : { sessions, sent: now, ticket };
  }

  /**
   * Handles the answers of the service. An error in an answer's place says nothing about the
   * session.
   */
  answered(asked: Round, answers: readonly (SessionState | SessionAuthorityError)[]): void {
    const ended: OpenSession[] = [];
    const unknown: OpenSession[] = [];
    let error: SessionAuthorityError | undefined;
    asked.sessions.forEach((opened, index) => {
      if (!this.#isOpen(opened)) return;
      const answer = answers[index] ?? unavailable("none", "UNKNOWN");
      if (answer instanceof Error) {
        unknown.push(opened);
        error ??= answer;
      } else if (answer.active) {
        this.#planNext(opened, answer, asked);
      } else {
        ended.push(this.#drop(opened));
      }
    });
    if (error === undefined) {
      this.#failures = 0;
      this.#logged = "";
    }
    this.#tell(ended);
    if (error !== undefined) this.unanswered({ ...asked, sessions: unknown }, error);
  }

  /**
   * Plans the checks again, because the service did not answer. Only a session past its absolute
   * end has ended, because nothing puts off the absolute end.
   */
  unanswered(asked: Round, error: SessionAuthorityError): void {
    const ended: OpenSession[] = [];
    let pause = Math.min(FIRST_PAUSE_MS * 2 ** this.#failures, MAX_PAUSE_MS);
    if (LASTING.has(error.code)) pause = this.#intervalMs;
    pause = Math.max(pause, error.retryAfterMs ?? 0);
    this.#failures = Math.min(this.#failures + 1, 10);
    for (const opened of asked.sessions) {
      if (!this.#isOpen(opened)) continue;
      if (this.#wall() >= opened.absoluteEnd) ended.push(this.#drop(opened));
      else this.#plan(opened, this.#now() + pause);
    }
    const why = error.reason === "" ? error.code : error.reason;
    if (why !== this.#logged) {
      this.#logged = why;
      this.#parts.log(`open connections don't learn whether their sessions live: ${why}`);
    }
    this.#tell(ended);
  }

  // --- inside -----------------------------------------------------------------------------------

  #planNext(opened: OpenSession, answer: SessionState, asked: Round): void {
    const { cache } = this.#parts;
    opened.absoluteEnd = answer.absoluteExpireTime?.getTime() ?? opened.absoluteEnd;
    let due = this.#atEnd(answer.expireTime);
    const watched =
      asked.ticket !== undefined && (cache?.still(asked.ticket, opened.name) ?? false);
    if (!watched) {
      const part = this.#intervalMs / ROUNDS_PER_INTERVAL;
      due = Math.min(due, Math.ceil((asked.sent + this.#intervalMs) / part) * part);
    }
    this.#plan(opened, due);
  }

  /** Plans the check of a session at this time, unless an earlier check is planned already. */
  #plan(opened: OpenSession, due: number): void {
    opened.due = Math.min(opened.due, due);
    this.#earliest = Math.min(this.#earliest, opened.due);
  }

  #atEnd(expires: Date | undefined): number {
    if (expires === undefined) return Infinity;
    return this.#now() + Math.max(expires.getTime() - this.#wall(), MIN_PAUSE_MS);
  }

  #all(): OpenSession[] {
    return [...this.#ofUser.values()].flatMap((known) => [...known.values()]);
  }

  #isOpen(opened: OpenSession): boolean {
    const { userId, sessionId } = opened.name;
    return this.#ofUser.get(userId)?.get(sessionId) === opened;
  }

  #drop(opened: OpenSession): OpenSession {
    const { userId, sessionId } = opened.name;
    const known = this.#ofUser.get(userId);
    known?.delete(sessionId);
    if (known?.size === 0) this.#ofUser.delete(userId);
    return opened;
  }

  #tell(ended: readonly OpenSession[]): void {
    for (const opened of ended) {
      const { listeners } = opened;
      opened.listeners = [];
      for (const listener of listeners) {
        try {
          listener();
        } catch {
          // The other listeners must be called, too.
          this.#parts.log("a listener for the end of a session has failed");
        }
      }
    }
  }
}

/** Returns true if an event of the session's user may have ended the session. */
function mayEnd(event: Event, name: SessionName): boolean {
  if (event.type === EventType.DEVICE_SIGNED_IN) {
    const device = event.device?.deviceId ?? "";
    return event.sessionId !== name.sessionId && (device === "" || device === name.deviceId);
  }
  return !ENDS_NONE.has(event.type);
}
