"""Repeats the decision and the commit of a use case until no record has changed in between, but at
most MAX_ATTEMPTS times. In one process, the sign-ins, renewals and updates of one user run one
after the other.
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
# The pause is drawn from the whole range that starts at 0. This keeps rival attempts apart best.
_BACKOFF = Backoff(timedelta(milliseconds=4), timedelta(milliseconds=256), least_share=0)


class Attempts:
    """The attempts of one use case to decide and commit.

    In the loop `while True: now = await attempts.next()`, each attempt gets its time. Later
    attempts wait a little, so that rival attempts do not collide again.
    """

    def __init__(self, clock: Callable[[], datetime], metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._made = 0

    async def next(self) -> datetime:
        """Begins the next attempt and returns its time. Raises Conflict after MAX_ATTEMPTS
        attempts.
        """
        if self._made == MAX_ATTEMPTS:
            raise Conflict
        if self._made:
            self._metrics.conflicts.inc()
            await asyncio.sleep(_BACKOFF.seconds(self._made))
        self._made += 1
        return self._clock()


class UserLocks:
    """Locks with which this process makes only one sign-in, renewal or update of a user at a time.
    With these locks, few use cases must decide again. Validations and revocations do not take the
    locks.

    Correctness does not depend on these locks, as other processes do not see them.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, user_id: str) -> AsyncIterator[None]:
        """Holds the lock of a user while the context lasts."""
        async with self._locks.setdefault(user_id, asyncio.Lock()):
            yield
