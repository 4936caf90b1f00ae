"""Has the near cache, which stores the service's answers to validations in this process. The cache
uses its answers only while the last proof of a watch (a call of WatchEvents) is recent enough.

This module stores the answers, and decides which answers the cache may use. The module sends
nothing, and waits for nothing but the cache's lock. The module `watching` passes the messages of
the watch to the cache. If the cache has no answer for a token, the module `coalescing` asks the
service. CACHE.md explains how old an answer of the cache can be. Any number of threads may use one
cache.
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
# An event of one of these types concerns one user, and has the ID of this user. Any other event may
# concern all users: it is about a revoked signing key, or has a type that this version of the
# client does not know.
_OF_A_USER = frozenset(
    kind.value
    for kind in EventType
    if kind not in (EventType.UNSPECIFIED, EventType.SIGNING_KEY_REVOKED)
)
# After a signing key was revoked, or the store's primary was replaced, the cache stores no answers
# to requests of the next 15 seconds. A server of the service that has not learned of the revocation
# or of the new primary may still accept tokens that it should refuse.
_SETTLING_SECONDS = 15.0
# During one watch, the server's clock may run ahead of this machine's clock by up to this time. A
# time service such as NTP makes a clock gain or lose at most about one second in 34 minutes. A
# connection lasts at most 34 minutes. So two clocks drift apart by at most about two seconds during
# a connection.
_MAX_AHEAD_SECONDS = 2.0
# The number of counters of events. Users share a counter if the hashes of their IDs are equal
# modulo this number. An event of one user may prevent that an answer for another user of the same
# counter is stored. A shared counter never causes an answer to be stored.
_COUNTERS = 4096

_caches: weakref.WeakSet[NearCache] = weakref.WeakSet()


def _clock() -> float:
    """Returns the seconds of CLOCK_BOOTTIME, a monotonic clock that also runs while the machine
    sleeps. On a system without CLOCK_BOOTTIME, `time.monotonic` replaces this function.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if not hasattr(time, "CLOCK_BOOTTIME"):
    _clock = time.monotonic


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Holds the counts of a near cache. `emptied` is the number of times that the cache dropped all
    of its answers at once. If two threads use the cache at the same instant, one hit or one miss
    may not be counted.
    """

    live: bool
    entries: int
    hits: int
    misses: int
    emptied: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """The number of answers that the cache dropped, by reason: `event` (an event about the user
    came, or the client itself called `forget_user`), `emptied` (the cache dropped all of its
    answers at once), `room` (the cache was full), `over` (the answer was too old, or its token or
    session had ended), and `replaced` (the client tried to renew the token, or a newer answer about
    the token came).
    """
    staleness: float = math.inf
    """The highest possible age of the last proof of the watch, in seconds. The value is infinite if
    there is no watch, or if the watch has sent no proof yet.
    """


class Ticket(NamedTuple):
    """Records the state of the cache just before a request is sent. `watch` is a number that
    changes with each watch, and whenever the cache drops all of its answers. `events` is the number
    of events about users so far. A call of `forget_user` counts as an event. `sent` is the time by
    the cache's clock, in seconds.
    """

    watch: int
    events: int
    sent: float


# The longest form of a device ID has 45 characters, without white space around it. The service also
# accepts any amount of white space around a device ID. So that white space can't fill the memory,
# no answer is stored for a device ID with more characters than this limit.
_MAX_DEVICE_ID_CHARACTERS = 64


class _Entry(NamedTuple):
    validation: Validation
    until: float
    ends: float  # by the wall clock, which may be set back or forward


class NearCache:
    """Stores answers of ValidateSession. The cache uses an answer only while the watch's last proof
    is recent enough, and until an event reports that the answer may have changed. A cache belongs
    to one client.

    `max_entries` is the highest number of answers in the cache. One answer takes about 3 KiB. If
    the cache is full, it drops the least recently used answer first.

    `max_age` is the longest time for which the cache uses an answer. If `max_age` is at most the
    service's `GRACE`, the cache accepts superseded tokens no longer than the service itself does.
    `max_age` must be less than the service's `ALARM_AFTER`, because the cache would otherwise
    accept tokens for which the service raises the alarm.

    `max_silence` is the highest age of the watch's last proof at which the cache still answers.
    `max_silence` is at most 15 seconds. The cache may miss a revocation for `max_silence`. In the
    few cases that CACHE.md names, the cache may miss a revocation for longer. Proofs come every 10
    to 11 seconds, so a cache with a `max_silence` of less than 12 seconds often can't answer.

    Raises ValueError if `max_entries`, `max_age` or `max_silence` is out of range.
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
        """Empties the cache, and makes a new lock. The constructor calls this method, and a forked
        child process calls it for each cache. A forked child has no watch. If another thread held
        the old lock during the fork, the old lock would stay locked in the child, which has no copy
        of that thread.
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
        """Returns True if the watch's last proof is recent enough for the cache to answer."""
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
        """Binds the cache to a client. Raises ValueError if the cache is already bound to a client.
        Two clients would have two watches, and the cache could not tell the messages of the two
        watches apart.
        """
        if self._claimed:
            raise ValueError("cache: belongs to another client")
        self._claimed = True

    @property
    def max_silence(self) -> float:
        """Returns the highest age of the watch's last proof, in seconds, at which the cache still
        answers.
        """
        return self._max_silence

    def vouches_for(self, session: Session) -> bool:
        """Returns True if the cache has an answer that it may use for at least one token of this
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
        """Returns True if the watch of the ticket is still live, and no event that may concern the
        user has come since the ticket was issued. If the result is True, the cache knows of no
        change since the ticket was issued. The result may also be False after an event about
        another user, because users share counters.
        """
        with self._lock:
            same = ticket.watch == self._watch and self._clock() < self._live_until
            return same and self._last_events[_counter(name.user_id)] <= ticket.events

    # --- answers ----------------------------------------------------------------------------------

    def get(self, access_token: str, device_id: str) -> Validation | None:
        """Returns the answer for a token from a device if the cache may use this answer, else None.
        The cache may use an answer while the watch's last proof is recent enough, the answer is not
        older than `max_age`, and neither the token nor the session has ended.

        This method takes no lock. The method first reads the time until which the last proof is
        valid, then the entry, and then the clock. So the entry was in the cache while the last
        proof was valid, even if other threads change the cache at the same time.
        """
        live_until = self._live_until
        key = (access_token, device_id)
        entry = self._entries.get(key)
        if entry is not None:
            now = self._clock()
            if now < live_until and now < entry.until and self._wall_clock() < entry.ends:
                with suppress(KeyError):  # another thread has just dropped the entry
                    self._entries.move_to_end(key)
                self._hits += 1
                return entry.validation
        self._misses += 1
        return None

    def ticket(self) -> Ticket | None:
        """Returns a ticket for `store`, or None while no watch is live. Call this method before you
        send the request whose answer you pass to `store`.
        """
        with self._lock:
            now = self._clock()
            return Ticket(self._watch, self._events, now) if now < self._live_until else None

    def store(self, ticket: Ticket, access_token: str, device_id: str, answer: Validation) -> bool:
        """Stores the answer for a token from a device, if the conditions below hold. Returns True
        if the answer was stored. In any case, drops the earlier answer for the same token and
        device.

        An answer is stored only if it is active, recommends no renewal, and is for a device ID of
        at most 64 characters. In addition, the watch must have been live since the ticket was
        issued, and no event that may concern the user may have come since that moment. A call of
        `forget_user` counts as an event about the user. If a signing key was revoked, or the
        store's primary was replaced, answers to requests of the next 15 seconds are not stored.

        If an answer recommends a renewal, its token may be superseded. No event reports when a
        superseded token stops being valid, so the cache could use its answer for too long.
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
        """Drops the answer about a token. The client calls this method after it has renewed the
        token, or has tried to renew the token.
        """
        with self._lock:
            self._discard((access_token, device_id), "replaced")

    def forget_user(self, user_id: str) -> None:
        """Drops all answers about a user. Answers about this user are also not stored if their
        requests were sent before this call. The client calls this method after it has changed the
        user's sessions. The event about the changed sessions also drops the answers, but comes
        later.
        """
        with self._lock:
            self._forget_user(user_id)

    def clear(self) -> None:
        """Drops all answers. Answers to requests that were sent before this call are not stored
        either.
        """
        with self._lock:
            self._empty()
            self._watch += 1

    # --- for the watch: its messages and its end --------------------------------------------------

    def begin(self) -> None:
        """Drops all answers, because the client is about to start a new watch. Call this method
        just before the client requests the watch.
        """
        with self._lock:
            self._lose()
            self._began = self._clock()

    def tell(self, message: pb.WatchEventsResponse) -> None:
        """Handles a message of the watch. Handles the events of the message before its proof,
        because the proof says that the watch has sent all events, including those of this message.
        """
        with self._lock:
            for event in message.events:
                if event.type in _OF_A_USER and event.user_id:
                    self._forget_user(event.user_id)
                else:
                    self._empty()
                    self._watch += 1  # answers to requests sent before the event are not stored
                    if event.type == pb.EVENT_TYPE_SIGNING_KEY_REVOKED:
                        self._kept_from = self._clock() + _SETTLING_SECONDS
            if message.HasField("read_uptime"):
                self._prove(message.read_uptime.seconds + message.read_uptime.nanos / 1e9)
            elif message.HasField("read_time"):  # from a service that sends no `read_uptime`
                self._prove(message.read_time.seconds + message.read_time.nanos / 1e9)

    def lost(self, *, history_gone: bool = False) -> None:
        """Drops all answers because the watch is broken. Without a watch, no answer is certain.

        `history_gone` is True if the watch ended with CursorExpired: the store's primary may have
        been replaced. Other servers of the service may still read from the old primary for a few
        seconds, which no watch reports. So with `history_gone`, answers to requests of the next 15
        seconds are not stored.
        """
        with self._lock:
            self._lose()
            if history_gone:
                self._kept_from = self._clock() + _SETTLING_SECONDS

    def seconds_left(self) -> float:
        """Returns the number of seconds after which the watch counts as broken if no proof comes.
        Returns 0 if the watch already counts as broken.
        """
        with self._lock:
            until = max(self._live_until, self._began + self._max_silence)
            return max(until - self._clock(), 0.0)

    # --- private methods: the caller holds the lock -----------------------------------------------

    def _prove(self, read: float) -> None:
        """Handles a proof that the watch has sent all events from before `read`, a time in seconds
        by the server's clock.

        `_began` is the time, by this client's clock, at which the client requested the watch. The
        server read its clock for the first proof after the client had requested the watch. The
        difference between the `read` of a proof and the `read` of the first proof is the time
        between the two proofs. So by the client's clock, a proof covers at least all events from
        before `_began` plus the time since the first proof.

        The clocks of the server and of the client may show different times. The time of a proof
        does not depend on the moment at which its message arrives or is read. If the clock of the
        server or of the client is set or stands still, proofs can't be trusted. So if the time of a
        proof is more than 2 seconds in the future, the watch counts as broken.
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
        """Drops the least recently used entries until the cache has at most `max_entries`. Then
        drops up to two further entries, beginning with the least recently used entry, but stops at
        an entry that is not outdated. This method runs once for each new entry, so outdated entries
        that nobody uses become fewer.
        """
        while len(self._entries) > self._max_entries and (oldest := self._oldest()) is not None:
            self._discard(oldest, "room")
        for _ in range(2):
            oldest = self._oldest()
            if oldest is None or self._entries[oldest].until > now:
                break
            self._discard(oldest, "over")

    def _oldest(self) -> tuple[str, str] | None:
        """Returns the key of the least recently used entry, or None if the cache is empty. `get`
        takes no lock, so it may move an entry while this method reads the entries. If `get` moves
        an entry at the same moment, Python raises RuntimeError, and this method tries again.
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
