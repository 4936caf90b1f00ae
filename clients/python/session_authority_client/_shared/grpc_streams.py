"""Ends the streams of gRPC servers when the sessions of their callers end. The servers may use
asyncio or threads.

The caller gets UNAUTHENTICATED with the text "session_ended". For the handler it looks as if the
caller had left. A handler that is a task is cancelled. For a handler in a thread, the requests end
and the context is no longer active.
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
    """Returns the exception for a handler whose session has ended."""
    return SignInRequired(ENDED_TEXT, refusal(401, "sign_in_required"))


class AsyncStreamEnd:
    """Ends one stream that a task handles."""

    def __init__(self) -> None:
        self.has_come = False
        self._waits: set[asyncio.Timeout] = set()

    def hang_up(self) -> None:
        """Ends the stream because the session has ended."""
        self.has_come = True
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())

    async def within(self, work: Awaitable[_T]) -> _T:
        """Awaits a part of a handler's work, and returns the result. When the session ends, it
        cancels the work and raises SignInRequired.
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
        """Yields the responses until the session ends, and raises SignInRequired then.

        The session may also end between two responses. The stream is never interrupted while gRPC
        sends a response, because sending is not a part of the handler's work.
        """
        try:
            while True:
                yield await self.within(anext(responses))
        except StopAsyncIteration:
            return
        finally:
            await responses.aclose()


class ThreadStreamEnd:
    """Ends one stream that a thread handles. No other thread can interrupt this thread, so the call
    is ended while the handler goes on.
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
            # The public method `cancel` can only send CANCELLED, after which clients repeat the
            # call.
            call = self._context._rpc_event.call  # noqa: SLF001
            call.cancel(ENDED_CODE.value[0], ENDED_TEXT)
        except (AttributeError, TypeError):  # in another version of gRPC: the caller gets CANCELLED
            self._context.cancel()


class PlainStreamEnd:
    """Ends one stream that a server of asyncio handles in a thread."""

    def __init__(self, context: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.has_come = False
        self._context = context
        self._loop = loop

    def hang_up(self) -> None:
        """Ends the call because the session has ended. This is called in the event loop. `abort`
        would wait for the event loop, so another thread calls `abort`.
        """
        self.has_come = True
        self._loop.run_in_executor(None, self._abort)

    def _abort(self) -> None:
        abort: Callable[..., Any] = self._context.abort
        try:
            abort(ENDED_CODE, ENDED_TEXT)
        except Exception:  # noqa: BLE001 - `abort` always raises, also if the call is over already
            return
