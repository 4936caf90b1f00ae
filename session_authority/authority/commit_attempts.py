"""Repeats the decision and the commit of a use case if another request changed the records between
the read and the commit. A use case has at most MAX_ATTEMPTS attempts. In one process, the locks of
this module make the sign-ins, renewals and updates of one user run one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from session_authority.domain.errors import Conflict
from session_authority.runtime.backoff import Backoff
from session_authority.runtime.metrics import Metrics

MAX_ATTEMPTS = 8
# The pause before another attempt: a random share of a time that doubles with each attempt. The
# share may be as small as 0, because this keeps rival attempts apart best.
_BACKOFF = Backoff(timedelta(milliseconds=4), timedelta(milliseconds=256), least_share=0)


class Attempts:
    """Counts the attempts of one use case to decide and commit.

    The use case has the loop `while True: now = await attempts.next()`. Each pass of the loop is
    one attempt with its own time. Before a second or later attempt, `next` pauses, so that rival
    attempts do not collide again.
    """

    def __init__(self, clock: Callable[[], datetime], metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._made = 0

    async def next(self) -> datetime:
        """Begins the next attempt and returns its time. Raises Conflict if MAX_ATTEMPTS attempts
        were made already.
        """
        if self._made == MAX_ATTEMPTS:
            raise Conflict
        if self._made:
            self._metrics.conflicts.inc()
            await asyncio.sleep(_BACKOFF.seconds(self._made))
        self._made += 1
        return self._clock()


class UserLocks:
    """Owns a lock for each user. With the lock, this process makes only one sign-in, renewal or
    update of a user at a time. So a commit seldom fails because another request has changed a
    record. Validations and revocations do not take the lock.

    Correctness does not depend on these locks, because other processes do not see them.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, user_id: str) -> AsyncIterator[None]:
        """Holds the lock of a user while the context lasts."""
        async with self._locks.setdefault(user_id, asyncio.Lock()):
            yield
