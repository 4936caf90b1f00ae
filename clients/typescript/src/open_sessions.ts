/**
 * Owns the list of the sessions that have open connections. This module decides when to check a
 * session, and calls the listeners of a session that has ended.
 *
 * This module makes no calls and has no timers. While the client has a near cache with a live
 * watch, a session is checked when an event reports that the session may have ended, and when the
 * session expires. Without a live watch, a session is checked once a minute, or once in
 * `maxSilenceMs` if the client has a cache. A session counts as ended if an answer or an event of
 * the service says that the session has ended. If the service does not answer, a session counts as
 * ended only after its absolute end.
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

/** The highest number of sessions that the contract allows in one call of CheckSessions. */
export const MAX_NAMES = 500;
// An event of these types names the session that has ended. A later session never has the same
// session ID.
const ENDS_ONE: ReadonlySet<EventType> = new Set([
  EventType.DEVICE_REVOKED,
  EventType.DEVICE_EVICTED,
]);
const ENDS_NONE: ReadonlySet<EventType> = new Set([
  EventType.ENDED_TOKEN_PRESENTED,
  EventType.SUPERSEDED_TOKEN_PRESENTED,
]);
// The interval between two checks of a session is divided into this many parts. Sessions whose next
// check falls into the same part are checked in one call.
const ROUNDS_PER_INTERVAL = 60;
// The shortest time until a check at the end of a session. A session may have expired by this
// machine's clock, but not by the service's clock. Without this minimum, a session that has expired
// only by this machine's clock would be checked all the time.
const MIN_PAUSE_MS = 1_000;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;
// When a watch breaks, the next watch usually starts at once. A check before the next watch is live
// would have to be repeated. So the sessions are checked only after a short pause, which is at most
// this long.
const WATCH_AGAIN_MS = 1_000;
// After these statuses an early repetition would not help: the service is too old for
// CheckSessions, or refuses this caller.
const LASTING: ReadonlySet<StatusCode> = new Set([
  "UNIMPLEMENTED",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
]);

/** A session with open connections, the listeners for its end, and the time of its next check. */
export interface OpenSession {
  readonly name: SessionName;
  /**
   * When the session ends even if it is used, in milliseconds of the wall clock. Infinite if
   * unknown.
   */
  absoluteEnd: number;
  listeners: (() => void)[];
  /** When the next check of the session is due, in milliseconds of the steady clock. */
  due: number;
}

/**
 * The sessions that one call of CheckSessions checks. `sent` is the time of the call by the steady
 * clock. `ticket` is the cache's ticket for the call. `ticket` is undefined if the client has no
 * live cache.
 */
export interface Round {
  readonly sessions: readonly OpenSession[];
  readonly sent: number;
  readonly ticket: Ticket | undefined;
}

/** The parts of a client that `OpenSessions` uses. */
export interface OpenSessionsParts {
  readonly cache: NearCache | undefined;
  /**
   * This function is called when a check may be due earlier than the time that `msUntilDue`
   * returned last.
   */
  readonly wake: () => void;
  readonly log: (message: string) => void;
  readonly now?: () => number;
  readonly wall?: () => number;
}

/** Owns the sessions of one client that have open connections. */
export class OpenSessions {
  readonly #parts: OpenSessionsParts;
  readonly #now: () => number;
  readonly #wall: () => number;
  readonly #intervalMs: number;
  readonly #ofUser = new Map<string, Map<string, OpenSession>>();
  /**
   * No check is due earlier than this time. If a session was dropped, the next check may be due
   * later.
   */
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
   * Adds a listener, which is called once when the session has ended. Returns a function that
   * removes the listener.
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
   * Removes a listener. A session without listeners is kept until its next check is due, because a
   * new connection of the session may open soon.
   */
  #stop(opened: OpenSession, listener: () => void): void {
    opened.listeners = opened.listeners.filter((known) => known !== listener);
    if (opened.listeners.length === 0) {
      this.#plan(opened, this.#now() + this.#intervalMs);
      this.#parts.wake();
    }
  }

  // --- for the watch ----------------------------------------------------------------------------

  /**
   * Handles the events of a watch. Call this method after the cache has handled the same message.
   */
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
    // After SIGNING_KEY_REVOKED the service refuses tokens that were signed with the key. But the
    // event ends no session.
    return event.type === EventType.SIGNING_KEY_REVOKED ? [] : this.#all();
  }

  /**
   * Plans checks of all sessions. Call this method when the watch is broken, after
   * `NearCache.lost`. `leftMs` is the result of `NearCache.silenceLeftMs` before that call of
   * `lost`.
   */
  lost(leftMs: number): void {
    const due = this.#now() + Math.min(leftMs, WATCH_AGAIN_MS) * (0.5 + Math.random() / 2);
    for (const opened of this.#all()) this.#plan(opened, due);
    this.#parts.wake();
  }

  /**
   * Plans checks of a user's sessions at once. Call this method after a call that changes sessions
   * of the user, even if the call failed.
   */
  doubt(userId: string): void {
    for (const opened of this.#ofUser.get(userId)?.values() ?? []) this.#plan(opened, this.#now());
    this.#parts.wake();
  }

  // --- for the checks ---------------------------------------------------------------------------

  /**
   * Returns the milliseconds until the next check may be due. Returns undefined if there are no
   * sessions. This method runs whenever a connection opens or closes. So this method must not
   * iterate over all sessions.
   */
  msUntilDue(): number | undefined {
    if (this.#ofUser.size === 0) return undefined;
    return Math.max(Math.min(this.#earliest - this.#now(), this.#intervalMs), 0);
  }

  /**
   * Returns up to 500 sessions whose checks are due now. Returns undefined if no check is due.
   * Drops sessions that are due but have no listeners.
   */
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
   * Handles the service's answers about the sessions in `asked`, in the same order. If an answer is
   * an error, the state of its session is unknown, and the session is checked again.
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
   * Plans new checks of the sessions in `asked`, after a pause. Call this method if the service did
   * not answer the call of CheckSessions. A session whose absolute end is past counts as ended,
   * because no use of a session moves its absolute end.
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

  /**
   * Plans the next check of a session at the time `due`, unless an earlier check is planned
   * already.
   */
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
          // The error is caught, because the other listeners must be called, too.
          this.#parts.log("a listener for the end of a session has failed");
        }
      }
    }
  }
}

/**
 * Returns true if an event may have ended the session. The event must be about the session's user,
 * or about all users.
 */
function mayEnd(event: Event, name: SessionName): boolean {
  if (event.type === EventType.DEVICE_SIGNED_IN) {
    const device = event.device?.deviceId ?? "";
    return event.sessionId !== name.sessionId && (device === "" || device === name.deviceId);
  }
  return !ENDS_NONE.has(event.type);
}
