"""Ends a stream of a gRPC server when the session of the stream's caller ends. The server may use
asyncio or threads.

The caller gets the status UNAUTHENTICATED with the text "session_ended". A handler that is a task
is cancelled. A handler in a thread is not interrupted, but its stream of requests ends, and its
context is no longer active.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc

from session_authority_client._shared.responses import SignInRequired, refusal

_T = TypeVar("_T")

ENDED_CODE, ENDED_TEXT = grpc.StatusCode.UNAUTHENTICATED, "session_ended"


def session_ended() -> SignInRequired:
    """Returns the exception that ends a handler after the session of its caller has ended."""
    return SignInRequired(ENDED_TEXT, refusal(401, "sign_in_required"))


class AsyncStreamEnd:
    """Ends one stream whose handler is a task of asyncio."""

    def __init__(self) -> None:
        self.has_come = False
        self._waits: set[asyncio.Timeout] = set()

    def hang_up(self) -> None:
        """Ends the stream because the session has ended."""
        self.has_come = True
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())

    async def within(self, work: Awaitable[_T]) -> _T:
        """Awaits a part of a handler's work, and returns the result. If the session ends, or has
        ended before, this method cancels the work and raises SignInRequired.
        """
        wait = asyncio.timeout(0 if self.has_come else None)
        try:
            async with wait:
                self._waits.add(wait)
                result = await work
        except TimeoutError:
            if not wait.expired():
                raise
            raise session_ended() from None
        finally:
            self._waits.discard(wait)
        if self.has_come:
            raise session_ended()
        return result

    async def each(self, responses: Any) -> AsyncIterator[Any]:
        """Yields a handler's responses. When the session ends, this method raises SignInRequired.

        If the session ends while gRPC sends a response, this method raises SignInRequired only
        after the response is sent.
        """
        try:
            while True:
                yield await self.within(anext(responses))
        except StopAsyncIteration:
            return
        finally:
            await responses.aclose()


class ThreadStreamEnd:
    """Ends one stream whose handler runs in a thread. Python can't interrupt a thread from outside,
    so the call ends while the handler continues to run.
    """

    def __init__(self, context: Any) -> None:
        self.has_come = False
        self._context = context

    def hang_up(self) -> None:
        """Ends the call because the session has ended."""
        self.has_come = True
        self._context.set_code(ENDED_CODE)
        self._context.set_details(ENDED_TEXT)
        try:
            # The public method `cancel` can only send CANCELLED, and clients would repeat a call
            # that ends with CANCELLED.
            call = self._context._rpc_event.call  # noqa: SLF001
            call.cancel(ENDED_CODE.value[0], ENDED_TEXT)
        except (AttributeError, TypeError):  # with other versions of gRPC, callers get CANCELLED
            self._context.cancel()


class PlainStreamEnd:
    """Ends one stream of a server for asyncio that runs the stream's handler in a thread."""

    def __init__(self, context: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.has_come = False
        self._context = context
        self._loop = loop

    def hang_up(self) -> None:
        """Ends the call because the session has ended. This method is called in the event loop. The
        context's method `abort` waits for the event loop, so another thread must call `abort`.
        """
        self.has_come = True
        self._loop.run_in_executor(None, self._abort)

    def _abort(self) -> None:
        abort: Callable[..., Any] = self._context.abort
        try:
            abort(ENDED_CODE, ENDED_TEXT)
        except Exception:  # noqa: BLE001 - `abort` always raises, also if the call is over already
            return
