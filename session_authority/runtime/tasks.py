"""Manages background tasks: tasks that a process waits for before it ends, and work that is
repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import structlog

from session_authority.runtime import logs

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class BackgroundTasks:
    """Holds the background tasks that are running. The references in this object keep the tasks
    alive, because the event loop has only weak references to tasks.

    If a task fails, the code that awaits the task gets the exception. If no code awaits the task,
    asyncio reports the exception.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts the work and returns its task."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def settled(self) -> None:
        """Waits until no task is running. Also waits for tasks that start during the wait."""
        while self._running:
            await asyncio.wait(self._running)

    async def settle_within(self, seconds: float) -> int:
        """Waits until no task is running, but at most `seconds`. Then cancels the tasks that are
        still running, and waits without a time limit until these tasks have ended. Returns the
        number of cancelled tasks.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.settled()
        late = [*self._running]
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        return len(late)


async def repeat(
    work: Callable[[], Awaitable[None] | None], interval_seconds: float, failure_event: str
) -> NoReturn:
    """Calls `work` again and again, with a pause before each call. If `work` raises an exception,
    logs the exception as the event `failure_event`, and continues.
    """
    while True:
        await asyncio.sleep(interval_seconds)
        try:
            pending = work()
            if pending is not None:
                await pending
        except Exception as error:  # noqa: BLE001 - the work must go on
            _log.error(failure_event, **logs.fault(error))
