"""Manages background tasks: work that a process waits for before it ends, and repeated work."""

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
    """The background tasks under way. This set holds a reference to each task, because the event
    loop alone would not keep a task alive.

    A failure is raised where the task is awaited. If no code awaits the task, asyncio reports the
    failure.
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
        """Waits until no task is under way. This includes tasks that start during the wait."""
        while self._running:
            await asyncio.wait(self._running)

    async def settle_within(self, seconds: float) -> int:
        """Waits like `settled`, but at most this long. Then it cancels the tasks that are still
        under way, and waits without a limit until they have ended. Returns the number of cancelled
        tasks.
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
    """Does the work again and again, with a pause before each time. A failure is logged with the
    name `failure_event`, and the work goes on.
    """
    while True:
        await asyncio.sleep(interval_seconds)
        try:
            pending = work()
            if pending is not None:
                await pending
        except Exception as error:  # noqa: BLE001 - whatever it is, the work must go on
            _log.error(failure_event, **logs.fault(error))
