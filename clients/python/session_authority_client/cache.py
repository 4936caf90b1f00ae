"""The near cache: answers of the service about sessions, kept in this process for as long as a
watch proves that they still hold.

This module has the memory and its rules. It waits for nothing and sends nothing: `watching` passes
it the messages of the watch, and `coalescing` asks the service if the cache has no answer. CACHE.md
says how stale an answer can be, and why. Any number of threads may use a cache.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from session_authority_client.types import EventType, Session, SessionName, Validation
from session_authority_client.wire import session_authority_pb2 as pb

__all__ = [
    "MAX_AGE",
    "MAX_SILENCE",
    "CacheStats",
    "NearCache",
    "Ticket",
]

MAX_AGE = timedelta(seconds=60)
MAX_SILENCE = timedelta(seconds=15)
# Types of events that concern one user, whom the event names. Any other event concerns all users,
# above all an event whose type this version does not know.
_OF_A_USER = frozenset(
    kind.value
    for kind in EventType
    if kind not in (EventType.UNSPECIFIED, EventType.SIGNING_KEY_REVOKED)
)
# One server of the service may know earlier than another that a key was revoked, or that the store
# has another primary. For this time the other server may accept tokens that it should refuse.
_SETTLING_SECONDS = 15.0
# How far the server's clock may seem to run ahead of ours within one watch. Clocks that are kept in
# time by changing their pace gain a second on each other in half an hour at the most, which is how
# long a connection lasts.
_MAX_AHEAD_SECONDS = 2.0
# Users whose IDs have the same hash share a counter of events. A shared counter may keep an answer
# from being stored, but never causes an answer to be stored.
_COUNTERS = 4096

_caches: weakref.WeakSet[NearCache] = weakref.WeakSet()


def _clock() -> float:
    """Seconds that never go back. They also pass while the machine sleeps, if its system has such a
    clock.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if not hasattr(time, "CLOCK_BOOTTIME"):
    _clock = time.monotonic


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The counts of a cache. Threads that count at the same instant may lose a count."""

    live: bool
    entries: int
    hits: int
    misses: int
    emptied: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """How many answers were dropped, by reason: by an `event` of their user; `emptied` with all
    others; too many answers for the `room`; their time was `over`; `replaced` by a renewal or a
    newer answer.
    """
    staleness: float = math.inf
    """The age of the last proof of the watch in seconds, at the most. Infinite without a proof."""


class Ticket(NamedTuple):
    """When a request was sent: during which watch, after how many of its events, at what time."""

    watch: int
    events: int
    sent: float


# The longest spelling without padding has 45 characters. The service trims any amount of that.
_MAX_DEVICE_ID_CHARACTERS = 64


class _Entry(NamedTuple):
    validation: Validation
    until: float
    ends: float  # by the wall clock, which may be set


class NearCache:
    """A cache of answers of ValidateSession that still hold. A cache belongs to one client.

    `max_entries` bounds the number of answers: the least recently used ones are dropped first, and
    one answer takes about 3 KiB. `max_age` is how long an answer may be used at the most. If it is
    at most the service's `GRACE`, the cache accepts no superseded token for longer than the service
    itself does. `max_silence` is how old the last proof may be that the watch has sent all events:
    a revocation can be missed for this time and no longer. With less than 12 seconds the cache is
    often off: proofs come every 10 seconds.
    """

    def __init__(
        self,
        *,
        max_entries: int = 10_000,
        max_age: timedelta = MAX_AGE,
        max_silence: timedelta = MAX_SILENCE,
        clock: Callable[[], float] = _clock,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if max_entries < 1:
            raise ValueError("max_entries: at least 1")
        if max_age <= timedelta(0):
            raise ValueError("max_age: more than nothing")
        if not timedelta(0) < max_silence <= MAX_SILENCE:
            raise ValueError(
                f"max_silence: more than nothing, and at most {MAX_SILENCE.total_seconds():g}"
                " seconds"
            )
        self._max_entries = max_entries
        self._max_age = max_age.total_seconds()
        self._max_silence = max_silence.total_seconds()
        self._clock = clock
        self._wall_clock = wall_clock
        self._hits = self._misses = self._emptied = self._watch = 0
        self._dropped = dict.fromkeys(("event", "emptied", "room", "over", "replaced"), 0)
        self._claimed = False
        self._after_fork()
        _caches.add(self)

    def _after_fork(self) -> None:
        """Empties the cache in a forked child. The child has neither the watch nor the thread that
        held the lock, so it starts with no answers, on another watch.
        """
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._of_user: dict[str, set[tuple[str, str]]] = {}
        self._events = 0
        self._last_events = [0] * _COUNTERS
        self._watch += 1
        self._began = float("-inf")
        self._first_read: float | None = None
        self._live_until = self._kept_from = float("-inf")

    # --- what it is worth -------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Returns True if the cache may answer: its watch has lately proven that it is complete."""
        return self._clock() < self._live_until

    def stats(self) -> CacheStats:
        """The counts of this cache."""
        return CacheStats(
            self.live,
            len(self._entries),
            self._hits,
            self._misses,
            self._emptied,
            self._dropped.copy(),
            max(self._clock() + self._max_silence - self._live_until, 0.0),
        )

    def claim(self) -> None:
        """Binds the cache to one client. Raises ValueError if it has a client already: the events
        of two watches would contradict each other.
        """
        if self._claimed:
            raise ValueError("cache: belongs to another client")
        self._claimed = True

    @property
    def max_silence(self) -> float:
        """The highest age of the last proof, in seconds, at which the cache answers."""
        return self._max_silence

    def vouches_for(self, session: Session) -> bool:
        """Returns True if the cache has an answer for any token of this session that certainly
        still holds.
        """
        with self._lock:
            now = self._clock()
            return now < self._live_until and any(
                now < entry.until
                and entry.validation.session is not None
                and entry.validation.session.session_id == session.session_id
                for key in self._of_user.get(session.user_id, ())
                if (entry := self._entries.get(key)) is not None
            )

    def still(self, ticket: Ticket, name: SessionName) -> bool:
        """Returns True if the watch of a ticket is live and has brought no event of the user since
        the ticket. Then an answer that was read after the ticket still holds.
        """
        with self._lock:
            same = ticket.watch == self._watch and self._clock() < self._live_until
            return same and self._last_events[_counter(name.user_id)] <= ticket.events

    # --- answers ----------------------------------------------------------------------------------

    def get(self, access_token: str, device_id: str) -> Validation | None:
        """The answer for a token from a device, if this answer certainly still holds.

        Takes no lock. It reads the proof before the entry, and the clock after the entry: whatever
        threads do in between, the entry was there at some time that this proof covers.
        """
        live_until = self._live_until
        key = (access_token, device_id)
        entry = self._entries.get(key)
        if entry is not None:
            now = self._clock()
            if now < live_until and now < entry.until and self._wall_clock() < entry.ends:
                with suppress(KeyError):  # dropped this very moment
                    self._entries.move_to_end(key)
                self._hits += 1
                return entry.validation
        self._misses += 1
        return None

    def ticket(self) -> Ticket | None:
        """Returns a ticket for `store`. Call this before you send a request whose answer is to be
        stored. Returns None while no watch is live.
        """
        with self._lock:
            now = self._clock()
            return Ticket(self._watch, self._events, now) if now < self._live_until else None

    def store(self, ticket: Ticket, access_token: str, device_id: str, answer: Validation) -> bool:
        """Keeps an answer if it is active, needs no renewal, and no event of its user came in
        between. Returns True if it was stored.

        An answer that needs a renewal may be of a superseded token, and no event reports when such
        a token stops being good.
        """
        key = (access_token, device_id)
        session = answer.session
        with self._lock:
            self._discard(key, "replaced")
            if session is None or not answer.active or answer.renew_recommended:
                return False
            if len(device_id) > _MAX_DEVICE_ID_CHARACTERS:
                return False
            now = self._clock()
            if (
                ticket.watch != self._watch
                or now >= self._live_until
                or ticket.sent < self._kept_from
            ):
                return False
            if self._last_events[_counter(session.user_id)] > ticket.events:
                return False
            ends = min(session.token_expire_time, session.expire_time).timestamp()
            until = min(ticket.sent + self._max_age, now + ends - self._wall_clock())
            self._entries[key] = _Entry(answer, until, ends)
            self._of_user.setdefault(session.user_id, set()).add(key)
            self._make_room(now)
            return True

    def discard(self, access_token: str, device_id: str) -> None:
        """Drops one answer: the token was just renewed."""
        with self._lock:
            self._discard((access_token, device_id), "replaced")

    def forget_user(self, user_id: str) -> None:
        """Drops the answers about a user, and keeps the user's answers that are on their way from
        being stored. An event of the user does the same, but comes later.
        """
        with self._lock:
            self._forget_user(user_id)

    def clear(self) -> None:
        """Drops all answers, and keeps answers that are on their way from being stored."""
        with self._lock:
            self._empty()
            self._watch += 1

    # --- for the watch ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Notes that the client is about to request a watch, at this moment."""
        with self._lock:
            self._lose()
            self._began = self._clock()

    def tell(self, message: pb.WatchEventsResponse) -> None:
        """Handles a message of the watch: first its events, then its proof that there were no
        others.
        """
        with self._lock:
            for event in message.events:
                if event.type in _OF_A_USER and event.user_id:
                    self._forget_user(event.user_id)
                else:
                    self._empty()
                    self._watch += 1  # so no answer to an earlier request is stored
                    if event.type == pb.EVENT_TYPE_SIGNING_KEY_REVOKED:
                        self._kept_from = self._clock() + _SETTLING_SECONDS
            if message.HasField("read_uptime"):
                self._prove(message.read_uptime.seconds + message.read_uptime.nanos / 1e9)
            elif message.HasField("read_time"):  # of a service that does not send its uptime
                self._prove(message.read_time.seconds + message.read_time.nanos / 1e9)

    def lost(self, *, history_gone: bool = False) -> None:
        """Drops all answers because the watch is broken, so that nothing is certain any more.

        `history_gone` means that the store's history has changed, because its primary was replaced.
        Other servers of the service may read from the old primary for a little longer, and no watch
        reports that. So no answer is kept for that time.
        """
        with self._lock:
            self._lose()
            if history_gone:
                self._kept_from = self._clock() + _SETTLING_SECONDS

    def seconds_left(self) -> float:
        """How many seconds the watch may still be silent before it counts as broken. 0 if it is
        broken already.
        """
        with self._lock:
            until = max(self._live_until, self._began + self._max_silence)
            return max(until - self._clock(), 0.0)

    # --- with the lock held -----------------------------------------------------------------------

    def _prove(self, read: float) -> None:
        """Notes a proof: the watch has sent all events from before `read`, by the server's clock.

        The server read the first proof's time after this client had requested the watch. So a later
        proof's time is at least as much later than the request as the server's clock says. The
        clocks need not agree, and a message that was long on its way, or unread in this process,
        proves no more than it did when it was sent. If a proof seems to be from the future, the two
        clocks don't run equally fast: one was set, or one stood still. Then no proof of this watch
        can be trusted, and the watch counts as broken.
        """
        if self._first_read is None:
            self._first_read = read
        proven, now = self._began + read - self._first_read, self._clock()
        if proven > now + _MAX_AHEAD_SECONDS:
            self._lose()
            return
        self._live_until = max(self._live_until, min(proven, now) + self._max_silence)

    def _lose(self) -> None:
        self._live_until = float("-inf")
        self._began, self._first_read = float("-inf"), None
        self._watch += 1
        self._empty()

    def _empty(self) -> None:
        if self._entries:
            self._emptied += 1
            self._dropped["emptied"] += len(self._entries)
        self._entries.clear()
        self._of_user.clear()

    def _forget_user(self, user_id: str) -> None:
        self._events += 1
        self._last_events[_counter(user_id)] = self._events
        for key in self._of_user.pop(user_id, ()):
            del self._entries[key]
            self._dropped["event"] += 1

    def _discard(self, key: tuple[str, str], reason: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._dropped[reason] += 1
            assert entry.validation.session is not None
            user_id = entry.validation.session.user_id
            of_user = self._of_user[user_id]
            of_user.discard(key)
            if not of_user:
                del self._of_user[user_id]

    def _make_room(self, now: float) -> None:
        """Drops the entries that are too many. For each new entry it also drops up to two entries
        whose time is over, so that these become fewer.
        """
        while len(self._entries) > self._max_entries and (oldest := self._oldest()) is not None:
            self._discard(oldest, "room")
        for _ in range(2):
            oldest = self._oldest()
            if oldest is None or self._entries[oldest].until > now:
                break
            self._discard(oldest, "over")

    def _oldest(self) -> tuple[str, str] | None:
        """The key of the least recently used entry. A hit takes no lock, so it may move an entry at
        the same moment.
        """
        while True:
            with suppress(RuntimeError):
                return next(iter(self._entries), None)


def _counter(user_id: str) -> int:
    return hash(user_id) % _COUNTERS


def _after_fork_in_child() -> None:
    for cache in list(_caches):
        cache._after_fork()  # noqa: SLF001 - its own module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
