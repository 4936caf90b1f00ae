"""Keeps the sessions of open connections. This module decides which sessions to check, when to
check each session, and which listeners to call after a session has ended.

This module never waits, and sends nothing. While a near cache has a live watch, a session is
checked in two cases: when the session expires, and when an event reports that the session may have
ended. Without a live watch, each session is also checked once per interval. The interval is the
near cache's `max_silence`, or `MAX_AGE` without a near cache.

A session counts as ended if the service answers that the session has ended, or if an event reports
the end of exactly this session. During an outage of the service, a session counts as ended only
after its absolute end. Several threads may use this module at the same time.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heappop, heappush
from itertools import count

import grpc

from session_authority_client.cache import MAX_AGE, MAX_SILENCE, NearCache, Ticket
from session_authority_client.errors import SessionAuthorityError
from session_authority_client.types import Session, SessionName, SessionState
from session_authority_client.wire import session_authority_pb2 as pb

__all__ = ["MAX_NAMES", "OpenSession", "OpenSessions", "Round"]

MAX_NAMES = 500  # the service's limit for one CheckSessions
# An event of one of these types names the one session that has ended. The service never uses a
# session ID for a second session.
_ENDS_ONE = frozenset((pb.EVENT_TYPE_DEVICE_REVOKED, pb.EVENT_TYPE_DEVICE_EVICTED))
_ENDS_NONE = frozenset(
    (pb.EVENT_TYPE_ENDED_TOKEN_PRESENTED, pb.EVENT_TYPE_SUPERSEDED_TOKEN_PRESENTED)
)
# The interval between two checks of a session has this many parts. Sessions whose checks are due
# within the same part are checked together, up to MAX_NAMES sessions in a call.
_ROUNDS_PER_INTERVAL = 60
# The shortest time from one check of a session to its next check, if the session has expired by
# this machine's clock, but not by the service's clock.
_MIN_PAUSE_SECONDS = 1.0
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.1, 5.0
# When a watch breaks, a new watch usually starts at once. The checks wait for the new watch at most
# this long, because a session that is checked before the new watch is live must be checked again.
_WATCH_AGAIN_SECONDS = 1.0
_NEVER = math.inf
# A plan is an entry of the queue: the time of a session's next check. When a session gets a new
# plan, its old plan stays in the queue. When the queue has more plans than these two numbers allow,
# the old plans are dropped.
_MAX_PLANS_PER_SESSION, _MAX_PLANS_BESIDE = 4, 64
# After one of these errors, a check after a short pause would not help. Either the service is too
# old to know CheckSessions, or the service refuses this caller.
_LASTING = frozenset(
    (
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
    )
)

_log = logging.getLogger("session_authority_client")


@dataclass(eq=False, slots=True)
class OpenSession:
    """A session of an open connection, with the listeners for its end and the time of its next
    check (`due`).
    """

    name: SessionName
    absolute_end: float  # in Unix seconds
    listeners: list[Callable[[], None]] = field(default_factory=list)
    due: float = _NEVER


@dataclass(frozen=True, slots=True)
class Round:
    """A group of sessions that are checked in one call. `sent` is the time of the call in seconds
    of the monotonic clock. `ticket` is the near cache's ticket from just before the call, or None
    if no watch was live.
    """

    sessions: Sequence[OpenSession]
    sent: float
    ticket: Ticket | None


class OpenSessions:
    """Keeps the open sessions of one client. This object calls `wake` when a check may be due
    earlier than the last result of `seconds_until_due` said.
    """

    def __init__(
        self,
        cache: NearCache | None,
        wake: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._cache = cache
        self._wake = wake
        self._clock = clock
        self._wall_clock = wall_clock
        interval = MAX_AGE if cache is None else MAX_SILENCE
        self._interval = interval.total_seconds() if cache is None else cache.max_silence
        self._lock = threading.Lock()
        self._of_user: dict[str, dict[str, OpenSession]] = {}
        self._due: list[tuple[float, int, OpenSession]] = []
        self._numbers = count()
        self._size = 0
        self._failures = 0
        self._logged = ""

    # --- for connections --------------------------------------------------------------------------

    def listen(self, session: Session, listener: Callable[[], None]) -> Callable[[], None]:
        """Adds a listener, which is called once after the session has ended. Returns a function
        that removes the listener.
        """
        with self._lock:
            known = self._of_user.setdefault(session.user_id, {})
            opened = known.get(session.session_id)
            if opened is None:
                name = SessionName(session.user_id, session.device_id, session.session_id)
                end = session.absolute_expire_time
                opened = OpenSession(name, _NEVER if end is None else end.timestamp())
                known[session.session_id] = opened
                self._size += 1
                self._plan_first(opened, session)
            opened.listeners.append(listener)
        self._wake()
        return lambda: self._stop(opened, listener)

    def _plan_first(self, opened: OpenSession, session: Session) -> None:
        if self._cache is not None and self._cache.vouches_for(session):
            self._plan(opened, self._at_end(session.expire_time, self._clock()))
        else:
            self._plan(opened, self._clock())

    def _stop(self, opened: OpenSession, listener: Callable[[], None]) -> None:
        """Removes a listener. A session without listeners is kept until its next check is due, but
        no longer than an interval. The session is kept because another listener may be added soon.
        """
        with self._lock:
            if listener in opened.listeners:
                opened.listeners.remove(listener)
            if not opened.listeners and self._is_open(opened):
                self._plan(opened, min(opened.due, self._clock() + self._interval))

    # --- for the watch ----------------------------------------------------------------------------

    def tell(self, message: pb.WatchEventsResponse) -> None:
        """Handles the events in a message of the near cache's watch. The near cache must have
        handled the message before.
        """
        if not message.events or not self._of_user:
            return
        ended: list[OpenSession] = []
        with self._lock:
            for event in message.events:
                if event.user_id:
                    known = list(self._of_user.get(event.user_id, {}).values())
                elif event.type == pb.EVENT_TYPE_SIGNING_KEY_REVOKED:
                    known = []  # no session has ended, although tokens have become invalid
                else:
                    known = self._all()
                for opened in known:
                    if event.type in _ENDS_ONE and event.session_id:
                        if event.session_id == opened.name.session_id:
                            ended.append(self._drop(opened))
                    elif _concerns(event, opened.name):
                        self._plan(opened, self._clock())
        self._tell(ended)
        self._wake()

    def lost(self, seconds_left: float) -> None:
        """Plans checks of all sessions, because the watch has broken. Call this method after the
        near cache's method `lost`. `seconds_left` is the value that the near cache's method
        `seconds_left` returned before the call of `lost`.
        """
        with self._lock:
            wait = min(seconds_left, _WATCH_AGAIN_SECONDS) * random.uniform(0.5, 1)  # noqa: S311
            for opened in self._all():
                self._plan(opened, min(opened.due, self._clock() + wait))
        self._wake()

    def doubt(self, user_id: str) -> None:
        """Plans checks of all sessions of a user. Call this method after this client has changed
        sessions of the user, or has tried to change them.
        """
        with self._lock:
            for opened in self._of_user.get(user_id, {}).values():
                self._plan(opened, self._clock())
        self._wake()

    # --- for the checks ---------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Returns True if no session is open."""
        return not self._of_user

    def seconds_until_due(self) -> float | None:
        """Returns how many seconds remain until the next check is due. If no check is planned,
        returns the length of an interval. Returns None if no session is open.
        """
        with self._lock:
            self._forget_stale()
            if not self._of_user:
                return None
            due = self._due[0][0] if self._due else self._clock() + self._interval
            return max(due - self._clock(), 0.0)

    def take_due(self) -> Round | None:
        """Returns the sessions whose checks are due now, but at most `MAX_NAMES` sessions. Drops
        the due sessions that have no listeners. Returns None if no check is due.
        """
        ticket = None if self._cache is None else self._cache.ticket()
        taken: list[OpenSession] = []
        with self._lock:
            now = self._clock()
            while len(taken) < MAX_NAMES:
                self._forget_stale()
                if not self._due or self._due[0][0] > now:
                    break
                opened = heappop(self._due)[2]
                opened.due = _NEVER
                if opened.listeners:
                    taken.append(opened)
                else:
                    self._drop(opened)
        return Round(taken, now, ticket) if taken else None

    def answered(
        self, asked: Round, answers: Sequence[SessionState | SessionAuthorityError]
    ) -> None:
        """Handles the service's answers about the sessions of a round. If the answer about a
        session is an error or is missing, the state of the session stays unknown, and the session
        is checked again.
        """
        ended: list[OpenSession] = []
        unknown: list[OpenSession] = []
        missing = len(asked.sessions) - len(answers)
        answers = [*answers, *[SessionAuthorityError("none", grpc.StatusCode.UNKNOWN)] * missing]
        with self._lock:
            for opened, answer in zip(asked.sessions, answers, strict=False):
                if not self._is_open(opened):
                    continue
                if isinstance(answer, SessionAuthorityError):
                    unknown.append(opened)
                elif answer.active:
                    self._plan_next(opened, answer, asked)
                else:
                    ended.append(self._drop(opened))
            if not unknown:
                self._failures, self._logged = 0, ""
        self._tell(ended)
        if unknown:
            errors = (found for found in answers if isinstance(found, SessionAuthorityError))
            self.unanswered(Round(unknown, asked.sent, None), next(errors))

    def unanswered(self, asked: Round, error: SessionAuthorityError) -> None:
        """Plans the checks of a round again, because the service did not say whether the sessions
        live. A session whose absolute end has passed counts as ended without an answer of the
        service.
        """
        ended: list[OpenSession] = []
        with self._lock:
            pause = min(_FIRST_PAUSE_SECONDS * 2**self._failures, _MAX_PAUSE_SECONDS)
            if error.code in _LASTING:
                pause = self._interval
            if error.retry_after is not None:
                pause = max(pause, error.retry_after.total_seconds())
            self._failures = min(self._failures + 1, 10)
            for opened in filter(self._is_open, asked.sessions):
                if self._wall_clock() >= opened.absolute_end:
                    ended.append(self._drop(opened))
                else:
                    self._plan(opened, min(opened.due, self._clock() + pause))
            why = error.reason or error.code.name
            news, self._logged = why != self._logged, why
        if news:
            _log.warning("open connections don't learn whether their sessions live: %s", why)
        self._tell(ended)

    # --- with the lock held -----------------------------------------------------------------------

    def _plan_next(self, opened: OpenSession, answer: SessionState, asked: Round) -> None:
        if answer.absolute_expire_time is not None:
            opened.absolute_end = answer.absolute_expire_time.timestamp()
        now, cache, ticket = self._clock(), self._cache, asked.ticket
        watched = cache is not None and ticket is not None and cache.still(ticket, opened.name)
        due = self._at_end(answer.expire_time, now)
        if not watched:
            part = self._interval / _ROUNDS_PER_INTERVAL
            due = min(due, math.ceil((asked.sent + self._interval) / part) * part)
        self._plan(opened, min(opened.due, due))

    def _at_end(self, expires: datetime | None, now: float) -> float:
        if expires is None:
            return _NEVER
        return now + max(expires.timestamp() - self._wall_clock(), _MIN_PAUSE_SECONDS)

    def _plan(self, opened: OpenSession, due: float) -> None:
        if due != opened.due:
            opened.due = due
            if due != _NEVER:
                heappush(self._due, (due, next(self._numbers), opened))
            if len(self._due) > _MAX_PLANS_PER_SESSION * self._size + _MAX_PLANS_BESIDE:
                self._due = [plan for plan in self._due if self._holds(plan)]
                heapify(self._due)

    def _forget_stale(self) -> None:
        """Drops outdated plans from the front of the queue, up to the first plan that is not
        outdated. A plan is outdated if its session has a newer plan or is no longer open.
        """
        while self._due and not self._holds(self._due[0]):
            heappop(self._due)

    def _holds(self, plan: tuple[float, int, OpenSession]) -> bool:
        due, _, opened = plan
        return opened.due == due and self._is_open(opened)

    def _all(self) -> list[OpenSession]:
        return [opened for known in self._of_user.values() for opened in known.values()]

    def _is_open(self, opened: OpenSession) -> bool:
        return self._of_user.get(opened.name.user_id, {}).get(opened.name.session_id) is opened

    def _drop(self, opened: OpenSession) -> OpenSession:
        known = self._of_user.get(opened.name.user_id, {})
        if known.pop(opened.name.session_id, None) is not None:
            self._size -= 1
        if not known:
            self._of_user.pop(opened.name.user_id, None)
        return opened

    # --- without the lock -------------------------------------------------------------------------

    def _tell(self, ended: Sequence[OpenSession]) -> None:
        for opened in ended:
            listeners, opened.listeners = opened.listeners, []
            for listener in listeners:
                try:
                    listener()
                except Exception:  # noqa: BLE001 - the other listeners must be called, too
                    _log.exception("A callback for the end of a session has failed")


def _concerns(event: pb.Event, name: SessionName) -> bool:
    """Returns True if an event may have ended the session with this name. The event must be about
    the session's user, or about no particular user.
    """
    if event.type == pb.EVENT_TYPE_DEVICE_SIGNED_IN:
        return event.session_id != name.session_id and (
            event.device.device_id in ("", name.device_id)
        )
    return event.type not in _ENDS_NONE
