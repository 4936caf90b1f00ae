"""The near cache keeps the service's answers about sessions in this process, as long as a watch
proves that they still hold.

This module has the cache's memory and its rules. It sends nothing, and waits only for the cache's
lock. `watching` passes it the messages of the watch. If the cache has no answer, `coalescing` asks
the service. CACHE.md explains how stale an answer can be. Any number of threads may use one cache.
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
# These types of events concern one user, whom the event names. Events of all other types concern
# all users. This includes events whose type this version does not know.
_OF_A_USER = frozenset(
    kind.value
    for kind in EventType
    if kind not in (EventType.UNSPECIFIED, EventType.SIGNING_KEY_REVOKED)
)
# One server of the service may know earlier than another that a key was revoked, or that the store
# has another primary. For this time, the other server may still accept tokens that it should
# refuse, so no answer is stored.
_SETTLING_SECONDS = 15.0
# Within one watch, the server's clock may seem to gain up to this much on our clock. A time service
# such as NTP may make a clock run a little faster or slower. Then the clock gains or loses at most
# about one second in 34 minutes, the longest life of a connection.
_MAX_AHEAD_SECONDS = 2.0
# Users whose IDs have the same hash share a counter of events. A shared counter may prevent that an
# answer is stored, but never causes an answer to be stored.
_COUNTERS = 4096

_caches: weakref.WeakSet[NearCache] = weakref.WeakSet()


def _clock() -> float:
    """Returns the seconds of a clock that never goes back. If the system has CLOCK_BOOTTIME, this
    clock also runs while the machine sleeps.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if not hasattr(time, "CLOCK_BOOTTIME"):
    _clock = time.monotonic


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The counts of a cache. `emptied` says how often the cache dropped all its answers at once. If
    two threads count at the same instant, one hit or one miss may be lost.
    """

    live: bool
    entries: int
    hits: int
    misses: int
    emptied: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """The number of answers that were dropped, by reason: `event` (an event of the user came),
    `emptied` (the whole cache was emptied), `room` (the cache was full), `over` (the answer was too
    old), and `replaced` (the token was renewed, or a newer answer came).
    """
    staleness: float = math.inf
    """The highest possible age of the watch's last proof, in seconds. It is infinite without a
    proof.
    """


class Ticket(NamedTuple):
    """The moment at which a request was sent. `watch` is the number of the watch, `events` is the
    number of events about users so far, and `sent` is the time. A call of `forget_user` counts as
    an event.
    """

    watch: int
    events: int
    sent: float


# Without white space around it, a device ID has at most 45 characters. The service accepts any
# amount of white space around a device ID. If the device ID is longer than this limit, the
# answer is not stored.
_MAX_DEVICE_ID_CHARACTERS = 64


class _Entry(NamedTuple):
    validation: Validation
    until: float
    ends: float  # by the wall clock, which may be set back or forward


class NearCache:
    """A cache of answers of ValidateSession that still hold. A cache belongs to one client.

    `max_entries` is the highest number of answers. One answer takes about 3 KiB. If the cache is
    full, it drops the least recently used answer first.

    `max_age` is the longest time for which the cache uses an answer. If it is at most the service's
    `GRACE`, the cache accepts superseded tokens no longer than the service itself does.

    `max_silence` is the highest age of the last proof that the watch has sent all events. It is at
    most 15 seconds. The cache can miss a revocation for this time. CACHE.md names the few cases in
    which the cache can miss a revocation for longer. Proofs come every 10 to 11 seconds. So with
    less than 12 seconds the cache is often off.

    Raises ValueError if a limit is out of range.
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
        """Sets up an empty cache, in the constructor and in a forked child. The child has no watch,
        and lacks the thread that may have held the lock. So the cache gets a new lock, and waits
        for another watch.
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

    # --- the state of the cache -------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Returns True if the cache may answer. It may if the watch has lately proven that it has
        sent all events.
        """
        return self._clock() < self._live_until

    def stats(self) -> CacheStats:
        """Returns the counts of this cache."""
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
        """Binds the cache to one client. Raises ValueError if the cache already belongs to a
        client, because the events of two watches would contradict each other.
        """
        if self._claimed:
            raise ValueError("cache: belongs to another client")
        self._claimed = True

    @property
    def max_silence(self) -> float:
        """The highest age of the last proof, in seconds, at which the cache still answers."""
        return self._max_silence

    def vouches_for(self, session: Session) -> bool:
        """Returns True if the cache has a certainly valid answer for at least one token of this
        session.
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
        """Returns True if the ticket's watch is live and has brought no event of the user since the
        ticket was issued. Then an answer that was read after that moment still holds.
        """
        with self._lock:
            same = ticket.watch == self._watch and self._clock() < self._live_until
            return same and self._last_events[_counter(name.user_id)] <= ticket.events

    # --- answers ----------------------------------------------------------------------------------

    def get(self, access_token: str, device_id: str) -> Validation | None:
        """Returns the answer for a token from a device if this answer certainly still holds, else
        None.

        This method takes no lock. It reads the proof before the entry, and the clock after the
        entry. So the entry was in the cache at a time that the proof covers, even if other threads
        change the cache meanwhile.
        """
        live_until = self._live_until
        key = (access_token, device_id)
        entry = self._entries.get(key)
        if entry is not None:
            now = self._clock()
            if now < live_until and now < entry.until and self._wall_clock() < entry.ends:
                with suppress(KeyError):  # another thread just dropped it
                    self._entries.move_to_end(key)
                self._hits += 1
                return entry.validation
        self._misses += 1
        return None

    def ticket(self) -> Ticket | None:
        """Returns a ticket for `store`, or None while no watch is live. Call this method before you
        send a request whose answer is to be stored.
        """
        with self._lock:
            now = self._clock()
            return Ticket(self._watch, self._events, now) if now < self._live_until else None

    def store(self, ticket: Ticket, access_token: str, device_id: str, answer: Validation) -> bool:
        """Stores an answer that certainly still holds. Returns True if the answer was stored. The
        earlier answer for the token and the device is dropped in any case.

        An answer is stored only if it is active and needs no renewal. Since the ticket was issued,
        the same watch must have been live, and must have brought no event of the user. An answer
        for a very long device ID is not stored. Answers are also not stored for a short time after
        a signing key was revoked, or after the store's primary was replaced.

        An answer that needs a renewal may be about a superseded token. No event reports when such a
        token stops being valid.
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
        """Drops the answer about a token that was just renewed."""
        with self._lock:
            self._discard((access_token, device_id), "replaced")

    def forget_user(self, user_id: str) -> None:
        """Drops all answers about a user. Answers to requests that were already sent for this user
        are not stored either. An event of the user does the same, but comes later.
        """
        with self._lock:
            self._forget_user(user_id)

    def clear(self) -> None:
        """Drops all answers. Answers to requests that were already sent are not stored either."""
        with self._lock:
            self._empty()
            self._watch += 1

    # --- for the watch: its messages and its end --------------------------------------------------

    def begin(self) -> None:
        """Notes that the client is about to request a watch, and drops all answers. Call this
        method just before the request.
        """
        with self._lock:
            self._lose()
            self._began = self._clock()

    def tell(self, message: pb.WatchEventsResponse) -> None:
        """Handles a message of the watch. It handles the events first, and then the proof that
        there were no other events.
        """
        with self._lock:
            for event in message.events:
                if event.type in _OF_A_USER and event.user_id:
                    self._forget_user(event.user_id)
                else:
                    self._empty()
                    self._watch += 1  # the answers to earlier requests are not stored
                    if event.type == pb.EVENT_TYPE_SIGNING_KEY_REVOKED:
                        self._kept_from = self._clock() + _SETTLING_SECONDS
            if message.HasField("read_uptime"):
                self._prove(message.read_uptime.seconds + message.read_uptime.nanos / 1e9)
            elif message.HasField("read_time"):  # from a service that sends no uptime
                self._prove(message.read_time.seconds + message.read_time.nanos / 1e9)

    def lost(self, *, history_gone: bool = False) -> None:
        """Drops all answers because the watch is broken. Without a watch, no answer is certain.

        `history_gone` means that the store's history has changed, because its primary was replaced.
        Other servers of the service may read from the old primary for a little longer, and no watch
        reports this. So no answer is stored for that time.
        """
        with self._lock:
            self._lose()
            if history_gone:
                self._kept_from = self._clock() + _SETTLING_SECONDS

    def seconds_left(self) -> float:
        """Returns the seconds for which the watch may stay silent before it counts as broken.
        Returns 0 if the watch is broken already.
        """
        with self._lock:
            until = max(self._live_until, self._began + self._max_silence)
            return max(until - self._clock(), 0.0)

    # --- private methods: the caller holds the lock -----------------------------------------------

    def _prove(self, read: float) -> None:
        """Notes a proof of the watch: all events that happened before `read`, by the server's
        clock, were sent.

        The server read its clock for the first proof after this client had requested the watch.
        Each later proof is later by the difference of the server's two readings. So the proven time
        is at least the request's time plus this difference.

        The two clocks need not agree. A message that arrived late, or was read late, proves no more
        than it did when it was sent. If a proof seems to come from more than 2 seconds in the
        future, one of the clocks was set or stood still. Then no proof of this watch can be
        trusted, and the watch counts as broken.
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
        """Drops entries until the cache has at most `max_entries`. It also drops up to two outdated
        entries for each new entry, so that outdated entries become fewer.
        """
        while len(self._entries) > self._max_entries and (oldest := self._oldest()) is not None:
            self._discard(oldest, "room")
        for _ in range(2):
            oldest = self._oldest()
            if oldest is None or self._entries[oldest].until > now:
                break
            self._discard(oldest, "over")

    def _oldest(self) -> tuple[str, str] | None:
        """Returns the key of the least recently used entry. A hit may move an entry at the same
        moment, because a hit takes no lock. Then this method tries again.
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
