/**
 * The sessions of open connections: which to ask the service for, and when, and whom to tell.
 *
 * This is the memory and its rules; it waits for nothing and sends nothing. While a near cache has
 * a live watch, events tell that a session may have ended. Else each session is asked for once in
 * an interval. Only the service's answer, or an event that names the session, ends it: an outage is
 * no sign-out.
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
// An event of this kind names the one session that it ended. Session IDs are never used again.
const ENDS_ONE: ReadonlySet<EventType> = new Set([
  EventType.DEVICE_REVOKED,
  EventType.DEVICE_EVICTED,
]);
const ENDS_NONE: ReadonlySet<EventType> = new Set([
  EventType.ENDED_TOKEN_PRESENTED,
  EventType.SUPERSEDED_TOKEN_PRESENTED,
]);
// Sessions that are due within the same part of an interval are asked for together.
const ROUNDS_PER_INTERVAL = 60;
// A session whose end is past by this machine's clock alone is asked for at most so often.
const MIN_PAUSE_MS = 1_000;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;
// When a watch breaks there is mostly another one at once, and then one check is enough.
const WATCH_AGAIN_MS = 1_000;
// Asking again at once would not help: the service is too old, or refuses this caller.
const LASTING: ReadonlySet<StatusCode> = new Set([
  "UNIMPLEMENTED",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
]);

/** A session, its listeners, and when it is to be asked for. */
export interface OpenSession {
  readonly name: SessionName;
  /** By the wall clock. */
  absoluteEnd: number;
  listeners: (() => void)[];
  due: number;
}

/** What is asked for together. The ticket tells when, as far as the cache is concerned. */
export interface Round {
  readonly sessions: readonly OpenSession[];
  readonly sent: number;
  readonly ticket: Ticket | undefined;
}

/** What open sessions need. */
export interface OpenSessionsParts {
  readonly cache: NearCache | undefined;
  /** Is called when a session may be due earlier than `msUntilDue` said. */
  readonly wake: () => void;
  readonly log: (message: string) => void;
  readonly now?: () => number;
  readonly wall?: () => number;
}

/** Knows the open sessions of one client. */
export class OpenSessions {
  readonly #parts: OpenSessionsParts;
  readonly #now: () => number;
  readonly #wall: () => number;
  readonly #intervalMs: number;
  readonly #ofUser = new Map<string, Map<string, OpenSession>>();
  /** No session is due earlier. A session that has left may have been due then. */
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
   * Has the listener called, once, when the session has ended. Returns a function that stops that.
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
   * Without listeners the session is still known until it would be asked for: another connection of
   * it may come at once.
   */
  #stop(opened: OpenSession, listener: () => void): void {
    opened.listeners = opened.listeners.filter((known) => known !== listener);
    if (opened.listeners.length === 0) {
      this.#plan(opened, this.#now() + this.#intervalMs);
      this.#parts.wake();
    }
  }

  // --- for the watch ----------------------------------------------------------------------------

  /** What happened, after the cache was told of it. */
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
    // The tokens of a revoked key are worthless, but that ends no session.
    return event.type === EventType.SIGNING_KEY_REVOKED ? [] : this.#all();
  }

  /**
   * The watch is broken, after the cache was told of it. `leftMs` is how much longer it might have
   * been silent.
   */
  lost(leftMs: number): void {
    const due = this.#now() + Math.min(leftMs, WATCH_AGAIN_MS) * (0.5 + Math.random() / 2);
    for (const opened of this.#all()) this.#plan(opened, due);
    this.#parts.wake();
  }

  /** This client has changed something of a user, or tried to. */
  doubt(userId: string): void {
    for (const opened of this.#ofUser.get(userId)?.values() ?? []) this.#plan(opened, this.#now());
    this.#parts.wake();
  }

  // --- for asking -------------------------------------------------------------------------------

  /**
   * How long nothing needs to be asked for. Undefined if no session is open. It looks at no
   * session: each connection that opens or closes asks this.
   */
  msUntilDue(): number | undefined {
    if (this.#ofUser.size === 0) return undefined;
    return Math.max(Math.min(this.#earliest - this.#now(), this.#intervalMs), 0);
  }

  /** The sessions that are to be asked for now. Undefined if there is none. */
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

  /** The service has answered. An answer that it could not give says nothing. */
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
   * The service did not answer: it is asked again. Only a session past its absolute end, which
   * nothing puts off, has ended.
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

  /** Has a session asked for then, unless it is due earlier already. */
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
          // The others must be told, too.
          this.#parts.log("a listener for the end of a session has failed");
        }
      }
    }
  }
}

/** Whether an event of a session's user may have ended the session. */
function mayEnd(event: Event, name: SessionName): boolean {
  if (event.type === EventType.DEVICE_SIGNED_IN) {
    const device = event.device?.deviceId ?? "";
    return event.sessionId !== name.sessionId && (device === "" || device === name.deviceId);
  }
  return !ENDS_NONE.has(event.type);
}
