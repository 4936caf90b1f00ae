"""The near cache: what the service said of sessions, kept in this process for as long as a watch
proves that it still holds.

This is the memory and its rules. It waits for nothing and sends nothing: `watching` tells it what
happens, `coalescing` asks the service where it has no answer. CACHE.md says how stale an answer can
be, and why. Any number of threads may use it.
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
# Events of one user, who is named. Any other event concerns all users, above all an event that this
# version does not know.
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
# Users share a counter of events by their hash: it may keep an answer from being stored, never the
# other way round.
_COUNTERS = 4096

_caches: weakref.WeakSet[NearCache] = weakref.WeakSet()


def _clock() -> float:
    """Seconds that never go back, and that pass while the machine sleeps too, where it can tell."""
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
    """How many answers were dropped: by an `event` of their user, `emptied` with all others, as
    they took too much `room`, as their time was `over`, or `replaced` by a renewal or a newer
    answer.
    """
    staleness: float = math.inf
    """How many seconds old the last proof of the watch is, at the most; infinite without one."""


class Ticket(NamedTuple):
    """When a request was sent: on which watch, after how many events of it, at what time."""

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
    """Answers of ValidateSession that still hold. Give it to one client.

    `max_entries` bounds it: the least recently used go first, and about 3 KiB is what one takes.
    `max_age` is how long an answer may be used at the most; up to the service's `GRACE` no
    superseded token is taken for longer than by the service itself. `max_silence` is how old the
    last proof may be that everything was told: a revocation can be missed for so long and no
    longer. Less than 12 seconds makes it miss often: proofs come every 10.
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
        """A child has neither the watch nor the thread that held the lock: it starts with nothing,
        on another watch.
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
        """Makes it one client's own. Raises ValueError if it has a client already: two watches
        would tell it two stories.
        """
        if self._claimed:
            raise ValueError("cache: belongs to another client")
        self._claimed = True

    @property
    def max_silence(self) -> float:
        """How many seconds old the last proof may be."""
        return self._max_silence

    def vouches_for(self, session: Session) -> bool:
        """Returns True if the cache has an answer for this session that certainly still holds, with
        any of its tokens.
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
        """The answer for a token from a device, if it certainly may still be given.

        Takes no lock. The proof is looked at before the entry and the clock after it: whatever
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
        """To be taken before a request is sent whose answer shall be stored. None while no watch is
        live.
        """
        with self._lock:
            now = self._clock()
            return Ticket(self._watch, self._events, now) if now < self._live_until else None

    def store(self, ticket: Ticket, access_token: str, device_id: str, answer: Validation) -> bool:
        """Keeps an answer if it is active, needs no renewal, and no event of its user came in
        between. Returns True if it was stored.

        An answer that needs a renewal may be of a superseded token, whose end no event tells.
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
        """Drops what is known of a user, and every answer that is on its way: what an event of the
        user does, before the event comes.
        """
        with self._lock:
            self._forget_user(user_id)

    def clear(self) -> None:
        """Drops everything, and every answer that is on its way."""
        with self._lock:
            self._empty()
            self._watch += 1

    # --- for the watch ----------------------------------------------------------------------------

    def begin(self) -> None:
        """A watch is about to be asked for, from now on."""
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
                    self._watch += 1  # so nothing is stored that was asked for before
                    if event.type == pb.EVENT_TYPE_SIGNING_KEY_REVOKED:
                        self._kept_from = self._clock() + _SETTLING_SECONDS
            if message.HasField("read_uptime"):
                self._prove(message.read_uptime.seconds + message.read_uptime.nanos / 1e9)
            elif message.HasField("read_time"):  # of a service that does not tell its uptime
                self._prove(message.read_time.seconds + message.read_time.nanos / 1e9)

    def lost(self, *, history_gone: bool = False) -> None:
        """The watch is broken: nothing is certain any more.

        With `history_gone`, as the store's history is another one than it was: its primary was
        replaced. Other servers may read the old one for a little longer, and no watch tells what
        it does not know. So nothing is kept for as long as that.
        """
        with self._lock:
            self._lose()
            if history_gone:
                self._kept_from = self._clock() + _SETTLING_SECONDS

    def seconds_left(self) -> float:
        """How long the watch may be silent from now on before it counts as broken: 0 if it is
        broken already.
        """
        with self._lock:
            until = max(self._live_until, self._began + self._max_silence)
            return max(until - self._clock(), 0.0)

    # --- with the lock held -----------------------------------------------------------------------

    def _prove(self, read: float) -> None:
        """All that happened before `read`, by the server's clock, was told.

        The first one was read after this side had asked, so a later one is at least as much younger
        than that as the server's clock says. Clocks need not agree, and a message that was long on
        its way, or lay here unread, proves no more than it did when it was sent. A proof that would
        be younger than now shows that the two clocks don't run alike: one was set, or one stood
        still. Then no proof of this watch is worth anything, and the watch counts as broken.
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
        """Drops what is too much. Of the entries whose time is over it drops two for each new one:
        they dry up.
        """
        while len(self._entries) > self._max_entries and (oldest := self._oldest()) is not None:
            self._discard(oldest, "room")
        for _ in range(2):
            oldest = self._oldest()
            if oldest is None or self._entries[oldest].until > now:
                break
            self._discard(oldest, "over")

    def _oldest(self) -> tuple[str, str] | None:
        """The key of the entry that was unused for longest. A hit takes no lock, so it may move an
        entry at the same moment.
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
