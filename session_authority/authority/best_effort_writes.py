"""Carries out best-effort writes in the background. Best-effort writes are writes that may be lost:
marks of use, last-seen times, and the removal of ended sessions.

The number of best-effort writes under way is limited, so that the writes can't fill the memory
while the store is not available. Writes over the limit are dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from session_authority.domain.errors import AuthorityError
from session_authority.runtime.metrics import Metrics
from session_authority.runtime.tasks import BackgroundTasks

MAX_PENDING_WRITES = 1024


class BestEffortWrites:
    """Owns the best-effort writes that are under way, at most one for each device of a user."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._pending: set[tuple[str, bytes]] = set()
        self._tasks = BackgroundTasks()
        self.settled = self._tasks.settled

    def write(
        self, user_id: str, key: bytes, work: Callable[[], Coroutine[Any, Any, object]]
    ) -> None:
        """Starts `work` in the background. Does not start `work` if another write for the device is
        under way, or if too many writes are under way. If `work` is not started, a later request
        that needs the same changes tries to write them again.
        """
        device = (user_id, key)
        if device in self._pending:
            return
        if len(self._pending) >= MAX_PENDING_WRITES:
            self._metrics.best_effort_writes_dropped.inc()
            return
        self._pending.add(device)
        task = self._tasks.start(self._run(work))
        task.add_done_callback(lambda _: self._pending.discard(device))

    async def settle_within(self, seconds: float) -> None:
        """Waits until every write is done, but no longer than `seconds`. Drops and counts the
        writes that are not done within this time.
        """
        late = await self._tasks.settle_within(seconds)
        self._metrics.best_effort_writes_dropped.inc(late)

    async def _run(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await work()
        except AuthorityError:
            self._metrics.best_effort_writes_dropped.inc()
