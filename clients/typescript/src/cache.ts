/**
 * The near cache: answers of the service about sessions, kept in this process for as long as a
 * watch proves that they still hold.
 *
 * This module has the memory and its rules. It waits for nothing and sends nothing: `watching.ts`
 * passes it the messages of the watch, and `coalescing.ts` asks the service if the cache has no
 * answer. CACHE.md of the Python client says how stale an answer can be, and why: the rules are the
 * same.
 */

import { milliseconds as positive } from "./arguments.js";
import { machineClocks, type Clocks } from "./clocks.js";
import { milliseconds, timestampMs } from "./convert.js";
import {
  EventType,
  type WatchEventsResponse,
} from "./gen/session_authority/v1/session_authority_pb.js";
import type { ActiveValidation, Session, SessionName, Validation } from "./types.js";

/** The default of `maxAgeMs`: how long an answer may be used at the most. */
export const MAX_AGE_MS = 60_000;
/** The default and the upper limit of `maxSilenceMs`: how old the watch's last proof may be. */
export const MAX_SILENCE_MS = 15_000;

// Types of events that concern one user, whom the event names. Any other event concerns all users,
// above all an event whose type this version does not know.
const OF_A_USER: ReadonlySet<number> = new Set(
  Object.values(EventType).filter(
    (kind) =>
      typeof kind === "number" &&
      kind !== EventType.UNSPECIFIED &&
      kind !== EventType.SIGNING_KEY_REVOKED,
  ) as number[],
);
// One server of the service may know earlier than another that a key was revoked, or that the store
// has another primary. For this time the other server may accept tokens that it should refuse.
const SETTLING_MS = 15_000;
// Within one watch, the server's clock may seem to gain up to this much on our clock. A service
// such as NTP may make a clock run a little faster or slower. Then the clock gains or loses at most
// about one second in 34 minutes, the longest life of a connection.
const MAX_AHEAD_MS = 2_000;
// Users whose IDs have the same hash share a counter of events. A shared counter may keep an answer
// from being stored, but never causes an answer to be stored.
const COUNTERS = 4096;
// An answer for a longer text is not stored. The longest form of a device ID has 45 characters, but
// the service accepts any number of blanks around it.
const MAX_DEVICE_ID_CHARACTERS = 64;

/** How many answers were dropped, by reason. */
export interface DroppedCounts {
  /** Answers that were dropped after an event of their user, or a change by this client. */
  readonly event: number;
  /** Answers that were dropped together with all others. */
  readonly emptied: number;
  /** Answers that exceeded `maxEntries`: the least recently used ones. */
  readonly room: number;
  /** Answers whose time was over. */
  readonly over: number;
  /** Answers that a renewal or a newer answer replaced. */
  readonly replaced: number;
}

/** The state of a cache, and its counts since it was created. */
export interface CacheStats {
  /** True if the cache may answer now. */
  readonly live: boolean;
  /** How many answers the cache has now. */
  readonly entries: number;
  readonly hits: number;
  readonly misses: number;
  /** How often all answers were dropped at once. */
  readonly emptied: number;
  readonly dropped: DroppedCounts;
  /**
   * An upper bound for the age of the watch's last proof in milliseconds. Infinite without a proof.
   */
  readonly stalenessMs: number;
}

/**
 * The moment at which a request was sent. `watch` is the number of the watch, `events` is the
 * number of events about users so far, and `sent` is the time. A call of `forgetUser` counts as an
 * event.
 */
export interface Ticket {
  readonly watch: number;
  readonly events: number;
  readonly sent: number;
}

/** Options of a cache. */
export interface NearCacheOptions {
  /**
   * How many answers the cache keeps at the most. The least recently used answers are dropped
   * first. One answer needs about 2 KiB. Default: 10,000.
   */
  readonly maxEntries?: number | undefined;
  /**
   * How long an answer may be used at the most, in milliseconds. If this is at most the service's
   * `GRACE`, the cache accepts no superseded token for longer than the service itself does.
   * Default: 60,000.
   */
  readonly maxAgeMs?: number | undefined;
  /**
   * How old the last proof may be that the watch has sent all events, in milliseconds: at most
   * 15,000. A revocation can be missed for this time and no longer. With less than 12,000 the cache
   * is often off: proofs come every 10 seconds. Default: 15,000.
   */
  readonly maxSilenceMs?: number | undefined;
  /** The clocks that the cache reads. Tests pass their own. Default: the clocks of the machine. */
  readonly clocks?: Clocks | undefined;
}

/** An answer, linked to its neighbours in the order of use. */
interface Entry {
  readonly accessToken: string;
  readonly deviceId: string;
  readonly validation: ActiveValidation;
  /** When the answer may no longer be used, by the clock that nobody sets. */
  readonly until: number;
  /** When the token or the session expires, by the wall clock, which may be set. */
  readonly ends: number;
  /** An answer for the same token with another text as device ID. */
  next: Entry | undefined;
  older: Entry | undefined;
  newer: Entry | undefined;
}

/** A cache of answers of ValidateSession that still hold. A cache belongs to one client. */
export class NearCache {
  /** The highest age of the last proof, in milliseconds, at which the cache answers. */
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
    // These checks refuse strings, because JavaScript would append a string to a time.
    this.#maxAgeMs = positive("maxAgeMs", maxAgeMs);
    if (positive("maxSilenceMs", maxSilenceMs) > MAX_SILENCE_MS) {
      const most = String(MAX_SILENCE_MS);
      throw new RangeError(`maxSilenceMs: more than nothing, and at most ${most}`);
    }
    this.#maxEntries = maxEntries;
    this.maxSilenceMs = maxSilenceMs;
    this.#clocks = options.clocks ?? machineClocks();
  }

  // --- state ------------------------------------------------------------------------------------

  /** True if the cache may answer: its watch has lately proven that it is complete. */
  get live(): boolean {
    return this.#clocks.now() < this.#liveUntil;
  }

  /** Returns the state and the counts of this cache. */
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
   * Binds the cache to one client. Throws an Error if it has a client already: the events of two
   * watches would contradict each other.
   */
  claim(): void {
    if (this.#claimed) throw new Error("cache: belongs to another client");
    this.#claimed = true;
  }

  /**
   * Returns true if the cache has an answer for any token of this session, and the watch is live.
   */
  vouchesFor({ userId, sessionId }: Session): boolean {
    const now = this.#clocks.now();
    if (now >= this.#liveUntil) return false;
    for (const entry of this.#ofUser.get(userId) ?? []) {
      if (now < entry.until && entry.validation.session.sessionId === sessionId) return true;
    }
    return false;
  }

  /**
   * Returns true if the watch of a ticket is live and has brought no event of the user since the
   * ticket. Then an answer that was read after the ticket still holds.
   */
  still(ticket: Ticket, { userId }: SessionName): boolean {
    return ticket.watch === this.#watch && this.live && this.#lastEvent(userId) <= ticket.events;
  }

  // --- answers ----------------------------------------------------------------------------------

  /** Returns the answer for a token from a device, if there is one and the watch is live. */
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
   * Returns a ticket for `store`. Call this before you send a request whose answer is to be stored.
   * Returns undefined while no watch is live.
   */
  ticket(): Ticket | undefined {
    const sent = this.#clocks.now();
    if (sent >= this.#liveUntil) return undefined;
    return { watch: this.#watch, events: this.#events, sent };
  }

  /**
   * Stores an answer if the answer is active, needs no renewal, and no event of its user came since
   * the ticket. Returns true if the answer was stored.
   *
   * An answer that needs a renewal may be of a superseded token, and no event reports when such a
   * token stops being good.
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

  /** Drops one answer, because its token was just renewed. */
  discard(accessToken: string, deviceId: string): void {
    let entry = this.#entries.get(accessToken);
    while (entry !== undefined && entry.deviceId !== deviceId) entry = entry.next;
    if (entry !== undefined) this.#remove(entry, "replaced");
  }

  /**
   * Drops the answers about a user. Answers about the user that are on their way are not stored,
   * either. An event of the user does the same, but comes later.
   */
  forgetUser(userId: string): void {
    this.#events += 1;
    this.#lastEvents[counterOf(userId)] = this.#events;
    for (const entry of this.#ofUser.get(userId) ?? []) this.#remove(entry, "event");
  }

  /** Drops all answers. Answers that are on their way are not stored, either. */
  clear(): void {
    this.#empty();
    this.#watch += 1;
  }

  // --- for the watch ----------------------------------------------------------------------------

  /** Notes that the client is about to request a watch, at this moment. */
  begin(): void {
    this.#lose();
    this.#began = this.#clocks.now();
  }

  /**
   * Handles a message of the watch: first its events, then its proof that there were no others.
   */
  tell(message: WatchEventsResponse): void {
    for (const event of message.events) {
      if (OF_A_USER.has(event.type) && event.userId !== "") {
        this.forgetUser(event.userId);
        continue;
      }
      this.clear(); // so no answer to an earlier request is stored
      if (event.type === EventType.SIGNING_KEY_REVOKED) {
        this.#keptFrom = this.#clocks.now() + SETTLING_MS;
      }
    }
    if (message.readUptime !== undefined) this.#prove(milliseconds(message.readUptime));
    // The service is older, and does not send its uptime.
    else if (message.readTime !== undefined) this.#prove(timestampMs(message.readTime));
  }

  /**
   * Drops all answers because the watch is broken, so that nothing is certain any more.
   *
   * `historyGone` means that the store's history has changed, because its primary was replaced.
   * Other servers of the service may read from the old primary for a little longer, and no watch
   * reports that. So no answer is kept for that time.
   */
  lost({ historyGone = false } = {}): void {
    this.#lose();
    if (historyGone) this.#keptFrom = this.#clocks.now() + SETTLING_MS;
  }

  /**
   * Returns how many milliseconds the watch may still be silent before it counts as broken. Returns
   * 0 if it is broken already.
   */
  silenceLeftMs(): number {
    const until = Math.max(this.#liveUntil, this.#began + this.maxSilenceMs);
    return Math.max(until - this.#clocks.now(), 0);
  }

  // --- inside -----------------------------------------------------------------------------------

  /**
   * Notes a proof: the watch has sent all events from before `read`, by the server's clock.
   *
   * The server read its clock for the first proof after this client had requested the watch. Each
   * later proof is later by the difference of the server's two readings. So the proven time is at
   * least the request's time plus this difference.
   *
   * The two clocks need not agree. A message that arrived late, or was read late, proves no more
   * than it did when it was sent. If a proof seems to come from more than 2 seconds in the future,
   * one of the clocks was set or stood still. Then no proof of this watch can be trusted, and the
   * watch counts as broken.
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

  /** Moves an entry to the end of the order of use: it was used just now. */
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
   * Drops the entries that are too many. Also drops the two least recently used entries if their
   * time is over, so that old entries become fewer with each new entry.
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

/** Returns the index of a user's counter, by a 32-bit hash of the user ID (FNV-1a). */
function counterOf(userId: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < userId.length; index += 1) {
    hash = Math.imul(hash ^ userId.charCodeAt(index), 0x01000193);
  }
  return (hash >>> 0) % COUNTERS;
}
