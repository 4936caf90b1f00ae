"""What may be lost is written in the background: marks of use, last-seen times, the removal of what
has ended.

Bounded, so that a store that is away can't fill the memory: what is too much is dropped and
counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from session_authority.domain.errors import AuthorityError
from session_authority.runtime.metrics import Metrics

_MOST = 1024


class Notes:
    """Writes under way, each of one thing."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._under_way: dict[tuple[str, bytes], asyncio.Task[None]] = {}

    def write(self, what: tuple[str, bytes], work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Starts `work`, unless `what` is being written already: what that misses will be seen
        again at the next use.
        """
        if what in self._under_way:
            return
        if len(self._under_way) >= _MOST:
            self._metrics.dropped_notes.inc()
            return
        task = asyncio.ensure_future(self._quietly(work))
        self._under_way[what] = task
        task.add_done_callback(lambda _: self._under_way.pop(what, None))

    async def settled(self) -> None:
        """Waits until everything noted so far is written, or dropped."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    async def _quietly(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except AuthorityError:
            self._metrics.dropped_notes.inc()
