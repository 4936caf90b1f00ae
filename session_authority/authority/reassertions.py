"""Carries out again what a failover may have lost: the ends of sessions that were acknowledged a
moment before.

A replica that is promoted may lack the last changes. Then a session that a user was told is over
would be good again. Each process remembers for a while which sessions it ended, and ends exactly
these once more where it meets them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from session_authority.authority.commit_attempts import Attempts
from session_authority.domain.events import Event
from session_authority.store import SessionStore
from session_authority.store.records import Commit, Committed, RemovedSessions
from session_authority.store.removed_sessions import readable

# Replicas that are further behind are no replicas.
MEMORY = timedelta(seconds=60)
# Of more, in a minute, the oldest are forgotten. Each takes about 1.5 KiB, and 100 bytes for each
# of its sessions: 32 MiB in all at the most.
_MOST_ENDS, _MOST_SESSIONS = 16_384, 65_536
_AT_ONCE = 32

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ended:
    """Sessions of a user that were ended, until when that is remembered, and the event of it."""

    user_id: str
    sessions: RemovedSessions
    event: Event
    until: datetime


class Reassertions:
    """The sessions that this process ended lately."""

    def __init__(
        self,
        store: SessionStore,
        clock: Callable[[], datetime],
        attempts: Callable[[], Attempts],
    ) -> None:
        self._store = store
        self._clock = clock
        self._attempts = attempts
        self._ended: deque[_Ended] = deque()
        self._sessions = 0

    def note(self, user_id: str, sessions: RemovedSessions, event: Event) -> None:
        """Remembers that these sessions were ended. `event` tells of it, and would again."""
        now = self._clock()
        if sessions:
            self._ended.append(_Ended(user_id, sessions, event, now + MEMORY))
            self._sessions += len(sessions)
        while self._ended and (self._ended[0].until <= now or self._is_overfull()):
            self._sessions -= len(self._ended.popleft().sessions)

    def _is_overfull(self) -> bool:
        return len(self._ended) > _MOST_ENDS or self._sessions > _MOST_SESSIONS

    async def reassert(self) -> int:
        """Ends again what is remembered, and returns how many sessions had come back. Raises
        StoreUnavailable, Conflict: then call it again.
        """
        now, again = self._clock(), 0
        remembered = [ended for ended in self._ended if ended.until > now]
        for start in range(0, len(remembered), _AT_ONCE):
            some = remembered[start : start + _AT_ONCE]
            again += sum(await asyncio.gather(*map(self._end, some)))
        if again:
            _log.warning("sessions_ended_again", sessions=again)
        return again

    async def _end(self, ended: _Ended) -> int:
        attempts = self._attempts()
        ids = frozenset(session.session_id for session in readable(ended.sessions))
        while True:
            now = await attempts.next()
            state = await self._store.user(ended.user_id)
            found = {
                key: stored
                for key, stored in state.sessions.items()
                if stored.record.session_id in ids
            }
            if not found:
                return 0
            commit = Commit(
                ended.user_id,
                now,
                if_sessions=found,
                set_sessions=dict.fromkeys(found),
                events=(replace(ended.event, happened_at=now),),
            )
            if isinstance(await self._store.commit(commit), Committed):
                return len(found)
