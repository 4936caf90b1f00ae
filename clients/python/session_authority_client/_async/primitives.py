"""The parts of asyncio that the generated modules need. This module and `_sync/primitives.py` are
written by hand. `_sync/primitives.py` has the same names without "Async" or "async_".
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
"""Guards a few lines without an await. It needs no lock, because in an event loop no other code
runs between these lines.
"""


def async_home() -> Hashable:
    """Returns the event loop that runs now. A client that is made now can be used in this event
    loop only.
    """
    return asyncio.get_running_loop()


class AsyncAlarm(asyncio.Event):
    """A flag for which tasks wait, with a timeout."""

    async def wait(self, seconds: float | None = None) -> bool:  # type: ignore[override]
        """Waits until the alarm is set. Returns False if it is not set within `seconds`."""
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
        """Yields the items until `cut` is called or there are no more items. Then it closes the
        source of the items, if the source is a generator.
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
    """Repeats work for all callers in one task, as long as there is work."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self, step: AsyncCall[bool]) -> None:
        """Starts to repeat a step until the step returns False. It does nothing if the work is
        already under way, or after `close`.
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
    """One call for whose result several tasks wait. The call has a task of its own, so it goes on
    for the other callers when one caller is cancelled.
    """

    _task: asyncio.Task[_T]

    async def run(self, call: AsyncCall[_T], *, own_context: bool) -> None:
        """Starts the call, in the context of its first caller or in a context of its own."""
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
        """Waits for the result of the call, and returns it. If the call failed, raises the
        exception of the call. Each caller gets its own copy of a SessionAuthorityError. All callers
        get the same object if the exception has another type.
        """
        error = await self.exception()
        if error is not None:
            raise copy_of(error)
        return self._task.result()

    async def close(self) -> None:
        """Waits for the end of the call. The call fails because the client is closed."""
        await asyncio.wait([self._task])


def _hear(task: asyncio.Task[Any]) -> None:
    """Reads the exception of a call that failed after all its callers had left. Otherwise asyncio
    would log the exception.
    """
    if not task.cancelled():
        task.exception()
