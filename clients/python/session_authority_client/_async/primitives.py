"""Provides alarms, background work and shared calls for asyncio. The other modules of `_async` use
this module. Most modules of `_sync` are generated from modules of `_async`, but this module and
`_sync/primitives.py` are both written by hand. `_sync/primitives.py` has the same names as this
module, but without "Async" or "async_".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Hashable
from contextlib import nullcontext
from contextvars import Context
from typing import Any, Generic, TypeVar

from session_authority_client._shared.failures import client_closed, copy_of, too_late

_T = TypeVar("_T")

AsyncCall = Callable[[], Coroutine[Any, Any, _T]]
AsyncGuard = nullcontext[None]
"""A guard for a few lines of code without an await. The guard needs no lock, because the event loop
runs no other code between lines without an await.
"""


def async_home() -> Hashable:
    """Returns the event loop that runs now. A client that is made now can be used only in the event
    loop that runs now.
    """
    return asyncio.get_running_loop()


class AsyncAlarm(asyncio.Event):
    """A flag that tasks can wait for, with a timeout."""

    async def wait(self, seconds: float | None = None) -> bool:  # type: ignore[override]
        """Waits until the alarm is set. Returns False if the alarm is not set within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await super().wait()
        except TimeoutError:
            return self.is_set()


class AsyncCut:
    """Ends a stream early, even while a task waits for the next item."""

    def __init__(self) -> None:
        self._is_cut = False
        self._wait: asyncio.Timeout | None = None

    def cut(self) -> None:
        """Ends the stream. After this call, the stream yields no more items."""
        self._is_cut = True
        if self._wait is not None:
            self._wait.reschedule(asyncio.get_running_loop().time())

    async def each(self, items: AsyncIterable[_T]) -> AsyncGenerator[_T, None]:
        """Yields the items until `cut` is called or there are no more items. At the end, closes the
        source of the items if the source is a generator.
        """
        source = aiter(items)
        try:
            while not self._is_cut:
                wait = asyncio.timeout(None)
                try:
                    async with wait:
                        self._wait = wait
                        item = await anext(source)
                except TimeoutError:
                    if not wait.expired():
                        raise
                    return
                except StopAsyncIteration:
                    return
                finally:
                    self._wait = None
                if not self._is_cut:
                    yield item
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()


class AsyncBackground:
    """Repeats a step of work in one task for all callers, until the step returns False."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self, step: AsyncCall[bool]) -> None:
        """Starts the task that repeats a step until the step returns False. Does nothing if the
        task already runs, or after `close`.
        """
        if (self._task is None or self._task.done()) and not self._closed:
            self._task = asyncio.get_running_loop().create_task(
                self._repeat(step), name=self._name, context=Context()
            )

    async def _repeat(self, step: AsyncCall[bool]) -> None:
        while await step():
            pass

    async def close(self, alarm: AsyncAlarm) -> None:
        """Ends the work, even while the work waits for the alarm."""
        del alarm
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


class AsyncFlight(Generic[_T]):
    """A call whose result several tasks wait for. The call runs in a task of its own. If one caller
    is cancelled, the call continues for the other callers.
    """

    _task: asyncio.Task[_T]

    async def run(self, call: AsyncCall[_T], *, own_context: bool) -> None:
        """Starts the call. If `own_context` is True, the call runs in a new context, and if not, in
        the context of its first caller.
        """
        context = Context() if own_context else None
        self._task = asyncio.get_running_loop().create_task(call(), context=context)
        self._task.add_done_callback(_hear)

    async def exception(self, seconds: float | None = None) -> BaseException | None:
        """Waits for the end of the call. Returns the exception of the call, or None if the call has
        a result. If the call was cancelled, returns Unavailable.

        Raises Unavailable if the call has not ended after `seconds`.
        """
        if not self._task.done():
            await asyncio.wait([self._task], timeout=seconds)
        if not self._task.done():
            raise too_late()
        return client_closed() if self._task.cancelled() else self._task.exception()

    async def result(self) -> _T:
        """Waits for the result of the call, and returns the result. If the call failed, raises the
        exception of the call. A SessionAuthorityError is copied for each caller. An exception of
        any other class is the same object for all callers.
        """
        error = await self.exception()
        if error is not None:
            raise copy_of(error)
        return self._task.result()

    async def close(self) -> None:
        """Waits for the end of the call. The call fails because the client is closed."""
        await asyncio.wait([self._task])


def _hear(task: asyncio.Task[Any]) -> None:
    """Reads the exception of a call. If nobody read the exception, asyncio would log the exception
    of a call that failed after all its callers had stopped waiting.
    """
    if not task.cancelled():
        task.exception()
