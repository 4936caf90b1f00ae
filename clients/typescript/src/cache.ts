/**
 * The near cache: what the service said of sessions, kept in this process for as long as a watch
 * proves that it still holds.
 *
 * This is the memory and its rules. It waits for nothing and sends nothing: `watching.ts` tells it
 * what happens, `coalescing.ts` asks the service where it has no answer. CACHE.md of the Python
 * client says how stale an answer can be, and why: the rules are the same.
 */

import { milliseconds as positive } from "./arguments.js";
import { machineClocks, type Clocks } from "./clocks.js";
import { milliseconds, timestampMs } from "./convert.js";
import {
  EventType,
  type WatchEventsResponse,
} from "./gen/session_authority/v1/session_authority_pb.js";
import type { ActiveValidation, Session, SessionName, Validation } from "./types.js";

/** How long an answer may be used at the most, if nothing else is said. */
export const MAX_AGE_MS = 60_000;
/** How old the last proof of the watch may be at the most. */
export const MAX_SILENCE_MS = 15_000;

// Events of one user, who is named. Any other event concerns all users, above all an event that
// this version does not know.
const OF_A_USER: ReadonlySet<number> = new Set(
  Object.values(EventType).filter(
    (kind) =>
      typeof kind === "number" &&
      kind !== EventType.UNSPECIFIED &&
      kind !== EventType.SIGNING_KEY_REVOKED,
  ) as number[],
);
// What one server of the service knows others may not know yet: that a key was revoked, or that the
// store's primary is another one. For so long they may accept what they should not.
const SETTLING_MS = 15_000;
// How far the server's clock may seem to run ahead of ours within one watch. Clocks that are kept
// in time by changing their pace gain a second on each other in half an hour at the most, which is
// how long a connection lasts.
const MAX_AHEAD_MS = 2_000;
// Users share a counter of events by their hash: it may keep an answer from being stored, never the
// other way round.
const COUNTERS = 4096;
// The longest spelling without padding has 45 characters. The service trims any amount of that.
const MAX_DEVICE_ID_CHARACTERS = 64;

/** Why answers were dropped. */
export interface DroppedCounts {
  /** By an event of their user. */
  readonly event: number;
  /** With all others. */
  readonly emptied: number;
  /** As they needed too much room. */
  readonly room: number;
  /** As their time was over. */
  readonly over: number;
  /** By a renewal or a newer answer. */
  readonly replaced: number;
}

/** What a cache has done so far. */
export interface CacheStats {
  readonly live: boolean;
  readonly entries: number;
  readonly hits: number;
  readonly misses: number;
  readonly emptied: number;
  readonly dropped: DroppedCounts;
  /** How old the last proof of the watch is, at the most; infinite without one. */
  readonly stalenessMs: number;
}

/** When a request was sent: on which watch, after how many events of it, at what time. */
export interface Ticket {
  readonly watch: number;
  readonly events: number;
  readonly sent: number;
}

/** Options of a cache. */
export interface NearCacheOptions {
  /** The least recently used answers go first. About 2 KiB is what one needs. 10,000. */
  readonly maxEntries?: number | undefined;
  /**
   * How long an answer may be used at the most. Up to the service's `GRACE` no superseded token is
   * accepted for longer than by the service itself. 60,000.
   */
  readonly maxAgeMs?: number | undefined;
  /**
   * How old the last proof may be that everything was told: a revocation can be missed for so long
   * and no longer. Less than 12,000 makes it miss often: proofs come every 10 seconds. 15,000.
   */
  readonly maxSilenceMs?: number | undefined;
  /** For tests. */
  readonly clocks?: Clocks | undefined;
}

/** An answer, with its neighbours in the order of use. */
interface Entry {
  readonly accessToken: string;
  readonly deviceId: string;
  readonly validation: ActiveValidation;
  readonly until: number;
  /** By the wall clock, which may be set. */
  readonly ends: number;
  /** The same token with another spelling of the device ID. */
  next: Entry | undefined;
  older: Entry | undefined;
  newer: Entry | undefined;
}

/** Answers of ValidateSession that still hold. Give it to one client. */
export class NearCache {
  /** How old the last proof may be, in milliseconds. */
  readonly maxSilenceMs: number;
  readonly #maxEntries: number;
  readonly #maxAgeMs: number;
  readonly #clocks: Clocks;
  readonly #entries = new Map<string, Entry>();
  readonly #ofUser = new Map<string, Set<Entry>>();
  #size = 0;
  #oldest: Entry | undefined;
  #newest: Entry | undefined;
  #hits = 0;
  #misses = 0;
  #emptied = 0;
  readonly #dropped = { event: 0, emptied: 0, room: 0, over: 0, replaced: 0 };
  #claimed = false;
  #watch = 0;
  #events = 0;
  readonly #lastEvents = new Float64Array(COUNTERS);
  #began = -Infinity;
  #firstRead: number | undefined;
  #liveUntil = -Infinity;
  #keptFrom = -Infinity;

  constructor(options: NearCacheOptions = {}) {
    const { maxEntries = 10_000, maxAgeMs = MAX_AGE_MS, maxSilenceMs = MAX_SILENCE_MS } = options;
    if (!Number.isInteger(maxEntries) || maxEntries < 1) {
      throw new RangeError("maxEntries: a whole number, at least 1");
    }
    // A text would be appended to a time, not added to it.
    this.#maxAgeMs = positive("maxAgeMs", maxAgeMs);
    if (positive("maxSilenceMs", maxSilenceMs) > MAX_SILENCE_MS) {
      const most = String(MAX_SILENCE_MS);
      throw new RangeError(`maxSilenceMs: more than nothing, and at most ${most}`);
    }
    this.#maxEntries = maxEntries;
    this.maxSilenceMs = maxSilenceMs;
    this.#clocks = options.clocks ?? machineClocks();
  }

  // --- what it is worth -------------------------------------------------------------------------

  /** Whether it may answer: a watch has lately proven that it tells everything. */
  get live(): boolean {
    return this.#clocks.now() < this.#liveUntil;
  }

  /** What it has done so far. */
  stats(): CacheStats {
    return {
      live: this.live,
      entries: this.#size,
      hits: this.#hits,
      misses: this.#misses,
      emptied: this.#emptied,
      dropped: { ...this.#dropped },
      stalenessMs: Math.max(this.#clocks.now() + this.maxSilenceMs - this.#liveUntil, 0),
    };
  }

  /**
   * Makes it one client's own. Throws an Error if it has a client already: two watches would tell
   * it two stories.
   */
  claim(): void {
    if (this.#claimed) throw new Error("cache: belongs to another client");
    this.#claimed = true;
  }

  /** Whether an answer that certainly still holds is of this session, whatever its token. */
  vouchesFor({ userId, sessionId }: Session): boolean {
    const now = this.#clocks.now();
    if (now >= this.#liveUntil) return false;
    for (const entry of this.#ofUser.get(userId) ?? []) {
      if (now < entry.until && entry.validation.session.sessionId === sessionId) return true;
    }
    return false;
  }

  /**
   * Whether the watch of a ticket is live, and has told no event of a user since: what was read
   * after the ticket still holds.
   */
  still(ticket: Ticket, { userId }: SessionName): boolean {
    return ticket.watch === this.#watch && this.live && this.#lastEvent(userId) <= ticket.events;
  }

  // --- answers ----------------------------------------------------------------------------------

  /** The answer for a token from a device, if it certainly may still be given. */
  get(accessToken: string, deviceId: string): ActiveValidation | undefined {
    let entry = this.#entries.get(accessToken);
    while (entry !== undefined && entry.deviceId !== deviceId) entry = entry.next;
    if (entry !== undefined) {
      const wall = this.#clocks.wall();
      const now = this.#clocks.now(wall);
      if (now < this.#liveUntil && now < entry.until && wall < entry.ends) {
        this.#touch(entry);
        this.#hits += 1;
        return entry.validation;
      }
    }
    this.#misses += 1;
    return undefined;
  }

  /**
   * To be drawn before a request is sent whose answer shall be stored. Undefined while no watch is
   * live.
   */
  ticket(): Ticket | undefined {
    const sent = this.#clocks.now();
    if (sent >= this.#liveUntil) return undefined;
    return { watch: this.#watch, events: this.#events, sent };
  }

  /**
   * Keeps an answer if it is active, needs no renewal, and no event of its user came in between.
   * Returns true if it was stored.
   *
   * An answer that needs a renewal may be of a superseded token, whose end no event tells.
   */
  store(ticket: Ticket, accessToken: string, deviceId: string, answer: Validation): boolean {
    this.discard(accessToken, deviceId);
    if (!answer.active || answer.renewRecommended) return false;
    if (deviceId.length > MAX_DEVICE_ID_CHARACTERS) return false;
    const now = this.#clocks.now();
    const { session } = answer;
    if (ticket.watch !== this.#watch || now >= this.#liveUntil) return false;
    if (ticket.sent < this.#keptFrom) return false;
    if (this.#lastEvent(session.userId) > ticket.events) return false;
    const ends = Math.min(session.tokenExpireTime.getTime(), session.expireTime.getTime());
    const until = Math.min(ticket.sent + this.#maxAgeMs, now + ends - this.#clocks.wall());
    this.#add({
      accessToken,
      deviceId,
      validation: answer,
      until,
      ends,
      next: this.#entries.get(accessToken),
      older: undefined,
      newer: undefined,
    });
    this.#makeRoom(now);
    return true;
  }

  /** Drops one answer: the token was just renewed. */
  discard(accessToken: string, deviceId: string): void {
    let entry = this.#entries.get(accessToken);
    while (entry !== undefined && entry.deviceId !== deviceId) entry = entry.next;
    if (entry !== undefined) this.#remove(entry, "replaced");
  }

  /**
   * Drops what is known of a user, and every answer that is on its way: what an event of the user
   * does, before the event comes.
   */
  forgetUser(userId: string): void {
    this.#events += 1;
    this.#lastEvents[counterOf(userId)] = this.#events;
    for (const entry of this.#ofUser.get(userId) ?? []) this.#remove(entry, "event");
  }

  /** Drops everything, and every answer that is on its way. */
  clear(): void {
    this.#empty();
    this.#watch += 1;
  }

  // --- for the watch ----------------------------------------------------------------------------

  /** A watch is about to be asked for, from now on. */
  begin(): void {
    this.#lose();
    this.#began = this.#clocks.now();
  }

  /** What the watch said: first what happened, then that there was nothing else. */
  tell(message: WatchEventsResponse): void {
    for (const event of message.events) {
      if (OF_A_USER.has(event.type) && event.userId !== "") {
        this.forgetUser(event.userId);
        continue;
      }
      this.clear(); // so nothing is stored that was asked for before
      if (event.type === EventType.SIGNING_KEY_REVOKED) {
        this.#keptFrom = this.#clocks.now() + SETTLING_MS;
      }
    }
    if (message.readUptime !== undefined) this.#prove(milliseconds(message.readUptime));
    // A service that does not tell its uptime.
    else if (message.readTime !== undefined) this.#prove(timestampMs(message.readTime));
  }

  /**
   * The watch is broken: nothing is certain any more.
   *
   * With `historyGone` the store's history is another one than it was: its primary was replaced.
   * Other servers may read the old one for a little longer, and no watch tells what it does not
   * know. So nothing is kept for as long as that.
   */
  lost({ historyGone = false } = {}): void {
    this.#lose();
    if (historyGone) this.#keptFrom = this.#clocks.now() + SETTLING_MS;
  }

  /**
   * How many milliseconds the watch may be silent from now on before it counts as broken: 0 if it
   * is broken already.
   */
  silenceLeftMs(): number {
    const until = Math.max(this.#liveUntil, this.#began + this.maxSilenceMs);
    return Math.max(until - this.#clocks.now(), 0);
  }

  // --- inside -----------------------------------------------------------------------------------

  /**
   * All that happened before `read`, by the server's clock, was told.
   *
   * The first one was read after this side had asked, so a later one is at least as much younger
   * than that as the server's clock says. Clocks need not agree, and a message that was long on its
   * way, or lay here unread, proves no more than it did when it was sent. A proof that would be
   * younger than now shows that the two clocks don't run alike: one was set, or one stood still.
   * Then no proof of this watch is worth anything, and the watch counts as broken.
   */
  #prove(read: number): void {
    this.#firstRead ??= read;
    const proven = this.#began + read - this.#firstRead;
    const now = this.#clocks.now();
    if (proven > now + MAX_AHEAD_MS) {
      this.#lose();
      return;
    }
    this.#liveUntil = Math.max(this.#liveUntil, Math.min(proven, now) + this.maxSilenceMs);
  }

  #lose(): void {
    this.#liveUntil = this.#began = -Infinity;
    this.#firstRead = undefined;
    this.clear();
  }

  #empty(): void {
    if (this.#size > 0) {
      this.#emptied += 1;
      this.#dropped.emptied += this.#size;
    }
    this.#entries.clear();
    this.#ofUser.clear();
    this.#size = 0;
    this.#oldest = this.#newest = undefined;
  }

  #lastEvent(userId: string): number {
    return this.#lastEvents[counterOf(userId)] ?? Infinity;
  }

  #add(entry: Entry): void {
    this.#entries.set(entry.accessToken, entry);
    const { userId } = entry.validation.session;
    const known = this.#ofUser.get(userId);
    if (known === undefined) this.#ofUser.set(userId, new Set([entry]));
    else known.add(entry);
    this.#size += 1;
    this.#append(entry);
  }

  #remove(entry: Entry, reason: keyof DroppedCounts): void {
    this.#dropped[reason] += 1;
    this.#size -= 1;
    this.#unlink(entry);
    const first = this.#entries.get(entry.accessToken);
    if (first !== entry) {
      for (let other = first; other !== undefined; other = other.next) {
        if (other.next === entry) other.next = entry.next;
      }
    } else if (entry.next === undefined) {
      this.#entries.delete(entry.accessToken);
    } else {
      this.#entries.set(entry.accessToken, entry.next);
    }
    const { userId } = entry.validation.session;
    const known = this.#ofUser.get(userId);
    known?.delete(entry);
    if (known?.size === 0) this.#ofUser.delete(userId);
  }

  /** Makes an entry the one that was used last. */
  #touch(entry: Entry): void {
    if (entry === this.#newest) return;
    this.#unlink(entry);
    this.#append(entry);
  }

  #append(entry: Entry): void {
    entry.older = this.#newest;
    entry.newer = undefined;
    if (this.#newest === undefined) this.#oldest = entry;
    else this.#newest.newer = entry;
    this.#newest = entry;
  }

  #unlink(entry: Entry): void {
    if (entry.older === undefined) this.#oldest = entry.newer;
    else entry.older.newer = entry.newer;
    if (entry.newer === undefined) this.#newest = entry.older;
    else entry.newer.older = entry.older;
  }

  /**
   * Drops what is too much. Of the entries whose time is over it drops two for each new one: they
   * dry up.
   */
  #makeRoom(now: number): void {
    while (this.#size > this.#maxEntries && this.#oldest !== undefined) {
      this.#remove(this.#oldest, "room");
    }
    for (let dropped = 0; dropped < 2; dropped += 1) {
      if (this.#oldest === undefined || this.#oldest.until > now) return;
      this.#remove(this.#oldest, "over");
    }
  }
}

/** A number for a user, by a hash of 32 bits (FNV-1a). */
function counterOf(userId: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < userId.length; index += 1) {
    hash = Math.imul(hash ^ userId.charCodeAt(index), 0x01000193);
  }
  return (hash >>> 0) % COUNTERS;
}
