/**
 * Owns the near cache. The cache keeps the service's answers about sessions in this process, for as
 * long as a watch proves that the answers still hold.
 *
 * This module stores the answers, and decides when an answer may still be used. This module makes
 * no calls and has no timers. `watching.ts` passes the messages of the watch to the cache.
 * `coalescing.ts` asks the service if the cache has no answer. The Python client's cache has the
 * same rules: its CACHE.md explains how stale an answer can be, and why.
 */

import { milliseconds as positive } from "./arguments.js";
import { machineClocks, type Clocks } from "./clocks.js";
import { milliseconds, timestampMs } from "./convert.js";
import {
  EventType,
  type WatchEventsResponse,
} from "./gen/session_authority/v1/session_authority_pb.js";
import type { ActiveValidation, Session, SessionName, Validation } from "./types.js";

/** The default of `maxAgeMs`, which limits how long an answer may be used. */
export const MAX_AGE_MS = 60_000;
/**
 * The default and the upper limit of `maxSilenceMs`, which limits the age of the watch's last
 * proof.
 */
export const MAX_SILENCE_MS = 15_000;

// An event of these types names the one user whom it concerns. Any other event concerns all users,
// even an event whose type this version does not know.
const OF_A_USER: ReadonlySet<number> = new Set(
  Object.values(EventType).filter(
    (kind) =>
      typeof kind === "number" &&
      kind !== EventType.UNSPECIFIED &&
      kind !== EventType.SIGNING_KEY_REVOKED,
  ) as number[],
);
// When a signing key is revoked, or the store's primary is replaced, some servers of the service
// learn of the change later than other servers. For this time after the change, a server may still
// accept tokens that are no longer good.
const SETTLING_MS = 15_000;
// Within one watch, the server's clock may run ahead of this machine's clock by up to this much.
// NTP may make a clock run a little faster or slower. A clock that NTP adjusts gains or loses at
// most about one second in 34 minutes, the longest life of a connection.
const MAX_AHEAD_MS = 2_000;
// The number of counters of events. Users whose IDs have the same hash share a counter. If two
// users share a counter, an event of one user may keep an answer about the other user from being
// stored. This costs one more call, but is safe.
const COUNTERS = 4096;
// No answer is stored for a device ID whose text is longer than this. The longest form of a device
// ID has 45 characters, but the service accepts any number of blanks around a device ID.
const MAX_DEVICE_ID_CHARACTERS = 64;

/** The numbers of answers that were dropped, one number for each reason. */
export interface DroppedCounts {
  /**
   * Answers that were dropped because of an event of their user, or because this client changed the
   * user's sessions.
   */
  readonly event: number;
  /** Answers that were dropped because the whole cache was emptied. */
  readonly emptied: number;
  /**
   * Answers that were dropped because the cache had more than `maxEntries`: the least recently used
   * answers.
   */
  readonly room: number;
  /**
   * Answers that were dropped because they reached `maxAgeMs`, or their token or session expired.
   */
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
 * The state of the cache at the moment when a request was sent. `watch` is a number that grows when
 * a watch begins or ends, and when all answers are dropped. `events` is the number of events about
 * users until that moment. Each call of `forgetUser` counts as an event, too. `sent` is the time of
 * that moment by the cache's clock.
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
   * How long an answer may be used at the most, in milliseconds. With a value up to the service's
   * setting `GRACE`, the cache accepts no superseded token for longer than the service itself does.
   * Default: 60,000.
   */
  readonly maxAgeMs?: number | undefined;
  /**
   * The highest age of the watch's last proof at which the cache answers, in milliseconds: at most
   * 15,000. The cache can miss a revocation for this time and no longer. With a value below 12,000
   * the cache is often off, because the service sends a proof every 10 seconds. Default: 15,000.
   */
  readonly maxSilenceMs?: number | undefined;
  /**
   * The clocks that the cache reads. Tests pass clocks of their own. Default: the clocks of the
   * machine.
   */
  readonly clocks?: Clocks | undefined;
}

/**
 * A stored answer. `older` is the answer that was used last before this answer, and `newer` is the
 * answer that was used next after this answer.
 */
interface Entry {
  readonly accessToken: string;
  readonly deviceId: string;
  readonly validation: ActiveValidation;
  /** When the answer may no longer be used, as a time of `Clocks.now`, which nobody sets. */
  readonly until: number;
  /** When the token or the session expires, whichever is first, as a time of the wall clock. */
  readonly ends: number;
  /** Another answer for the same token, from a request with another device ID. */
  next: Entry | undefined;
  older: Entry | undefined;
  newer: Entry | undefined;
}

/**
 * A cache of the answers of ValidateSession, for one client. The cache answers only while its watch
 * proves that no event is missing.
 */
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
    // The call of `positive` refuses a string: JavaScript would append a string to a time in place
    // of adding a number.
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

  /**
   * True if the cache may answer, which means that the watch's last proof is at most `maxSilenceMs`
   * old.
   */
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
   * Binds the cache to one client. Throws an Error if the cache already belongs to a client,
   * because a cache can follow only one client's watch.
   */
  claim(): void {
    if (this.#claimed) throw new Error("cache: belongs to another client");
    this.#claimed = true;
  }

  /**
   * Returns true if the watch is live and the cache has an answer for any token of this session.
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
   * Returns true if the ticket's watch is live and has sent no event of the user since the ticket
   * was made. If so, an answer to a request that was sent after the ticket still holds.
   */
  still(ticket: Ticket, { userId }: SessionName): boolean {
    return ticket.watch === this.#watch && this.live && this.#lastEvent(userId) <= ticket.events;
  }

  // --- answers ----------------------------------------------------------------------------------

  /**
   * Returns the stored answer for a token from a device. Returns undefined if no answer is stored,
   * if the answer is too old, if its token has expired, or if the watch is not live.
   */
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
   * Returns a ticket for `store`. Call this method before you send a request, if you want to store
   * the answer. Returns undefined while no watch is live.
   */
  ticket(): Ticket | undefined {
    const sent = this.#clocks.now();
    if (sent >= this.#liveUntil) return undefined;
    return { watch: this.#watch, events: this.#events, sent };
  }

  /**
   * Stores an answer if the answer is active and needs no renewal. The ticket's watch must still be
   * live, and no event of the user may have come since the ticket was made. Returns true if the
   * answer was stored.
   *
   * An answer with `renewRecommended` is not stored. Its token may be superseded, and no event
   * reports when a superseded token stops being good.
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

  /**
   * Drops the answer for a token from a device, if there is one. Call this method after a renewal
   * of the token.
   */
  discard(accessToken: string, deviceId: string): void {
    let entry = this.#entries.get(accessToken);
    while (entry !== undefined && entry.deviceId !== deviceId) entry = entry.next;
    if (entry !== undefined) this.#remove(entry, "replaced");
  }

  /**
   * Drops the answers about a user. The answers to requests that are under way are not stored,
   * either. An event of the user has the same effect, but arrives later than this client's own
   * change.
   */
  forgetUser(userId: string): void {
    this.#events += 1;
    this.#lastEvents[counterOf(userId)] = this.#events;
    for (const entry of this.#ofUser.get(userId) ?? []) this.#remove(entry, "event");
  }

  /** Drops all answers. The answers to requests that are under way are not stored, either. */
  clear(): void {
    this.#empty();
    this.#watch += 1;
  }

  // --- for the watch ----------------------------------------------------------------------------

  /** Notes that the client requests a watch now. Drops all answers. */
  begin(): void {
    this.#lose();
    this.#began = this.#clocks.now();
  }

  /** Handles a message of the watch: first its events, then the proof if the message has one. */
  tell(message: WatchEventsResponse): void {
    for (const event of message.events) {
      if (OF_A_USER.has(event.type) && event.userId !== "") {
        this.forgetUser(event.userId);
        continue;
      }
      this.clear(); // so that no answer to an earlier request is stored
      if (event.type === EventType.SIGNING_KEY_REVOKED) {
        this.#keptFrom = this.#clocks.now() + SETTLING_MS;
      }
    }
    if (message.readUptime !== undefined) this.#prove(milliseconds(message.readUptime));
    // An older service sends no uptime, only the time of its wall clock.
    else if (message.readTime !== undefined) this.#prove(timestampMs(message.readTime));
  }

  /**
   * Drops all answers. Call this method when the watch is broken. After a broken watch, events may
   * be missing.
   *
   * `historyGone` means that the store's primary was replaced. Some servers of the service may
   * still read from the old primary for a few seconds, and the watch can't report this. If
   * `historyGone` is true, the cache stores no answer to a request that is sent in the next 15
   * seconds.
   */
  lost({ historyGone = false } = {}): void {
    this.#lose();
    if (historyGone) this.#keptFrom = this.#clocks.now() + SETTLING_MS;
  }

  /**
   * Returns how many milliseconds are left until the watch counts as broken, if it sends no proof
   * before. Returns 0 if the watch is broken already.
   */
  silenceLeftMs(): number {
    const until = Math.max(this.#liveUntil, this.#began + this.maxSilenceMs);
    return Math.max(until - this.#clocks.now(), 0);
  }

  // --- inside -----------------------------------------------------------------------------------

  /**
   * Handles a proof: the watch has sent all events from before `read`, a time of the server's clock
   * in milliseconds.
   *
   * This client requested the watch at the time `#began` of its own clock. The server read its
   * clock for the first proof after `#began`. For a later proof, the server read its clock
   * `read - #firstRead` milliseconds later. So the proof covers at least the time until
   * `#began + read - #firstRead`.
   *
   * This rule uses only differences of the server's clock, so the server's clock need not agree
   * with this machine's clock. A message that arrives late, or is read late, proves no more than a
   * message that arrives at once. If the proven time is more than 2 seconds in the future, one of
   * the two clocks was set or stood still. In that case no proof of this watch can be trusted, and
   * the watch counts as broken.
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

  /** Makes an entry the most recently used entry. */
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
   * Drops the least recently used entries while the cache has more than `maxEntries` entries. Also
   * drops up to two least recently used entries whose time is over. So each call for a new entry
   * removes a few old entries, without a search through all entries.
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

/** Returns the index of a user's counter, which is a hash (32-bit FNV-1a) of the user ID. */
function counterOf(userId: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < userId.length; index += 1) {
    hash = Math.imul(hash ^ userId.charCodeAt(index), 0x01000193);
  }
  return (hash >>> 0) % COUNTERS;
}
