"""Ends sessions once more if a failover may have undone their end.

When the primary fails, a replica becomes the new primary, and may lack the latest changes. If the
end of a session is among the missing changes, the session is good again, although a caller knows
that the session has ended. So each process remembers for a while which sessions it has ended. If a
remembered session is in the store again, the process ends it once more.
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

# How long a process remembers that it ended a session. A replica that lags behind the primary for
# longer than this is not fit to become the primary.
MEMORY = timedelta(seconds=60)
# The largest number of remembered changes that ended sessions, and the largest number of sessions
# in these changes. If a process notes more, it forgets the oldest changes. A change needs about 1.5
# KiB of memory, and 100 bytes for each of its sessions. All remembered changes together need at
# most 32 MiB.
_MOST_ENDS, _MOST_SESSIONS = 16_384, 65_536
_AT_ONCE = 32

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ended:
    """Sessions of a user that one change ended, the event about this change, and the time until
    which the sessions are remembered.
    """

    user_id: str
    sessions: RemovedSessions
    event: Event
    until: datetime


class Reassertions:
    """Remembers the sessions that this process has ended within the time MEMORY, and ends them once
    more if necessary.
    """

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
        """Notes that this process ended these sessions. `event` is the event about the end of the
        sessions. If the sessions must be ended once more, `event` is written again.
        """
        now = self._clock()
        if sessions:
            self._ended.append(_Ended(user_id, sessions, event, now + MEMORY))
            self._sessions += len(sessions)
        while self._ended and (self._ended[0].until <= now or self._is_overfull()):
            self._sessions -= len(self._ended.popleft().sessions)

    def _is_overfull(self) -> bool:
        return len(self._ended) > _MOST_ENDS or self._sessions > _MOST_SESSIONS

    async def reassert(self) -> int:
        """Ends the remembered sessions that are in the store again. Returns the number of sessions
        that were ended once more. Raises StoreUnavailable if the store fails, and Conflict if other
        requests change the same records at each attempt. After an error, call this method again.
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
