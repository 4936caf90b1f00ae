"""Makes the calls of a client for asyncio, except the watch of a near cache. Each call except a
watch has a deadline and needs a slot. A call that fails raises an exception of this package.

A connection accepts a limited number of calls at once. Calls above the limit of the connection
would wait inside gRPC, and gRPC can lose a waiting call. With gRPC core 1.83 to 1.85, a waiting
call that is cancelled or reaches its deadline sometimes never ends. So a call waits in this module
for a slot, at most until its own deadline.

This module and `_sync/calls.py` are both written by hand, because tasks and threads wait in
different ways. A task can be cancelled while it waits, and gRPC can lose the call of a task. gRPC
never loses the call of a thread. A thread can make a call for a batch without waiting for the
response, because gRPC calls a function when the response arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from session_authority_client._shared.calls import (
    PAUSES_SECONDS,
    grant,
    unary_of,
    was_dropped,
    watch_of,
)
from session_authority_client._shared.failures import client_closed, failure_of
from session_authority_client._shared.limiter import Limiter
from session_authority_client._shared.recording import Recorder, recorded
from session_authority_client._shared.tracing import Metadata, Tracer
from session_authority_client._shared.transport import Transport
from session_authority_client.wire import session_authority_pb2 as pb

# If gRPC has not ended a call this long after the call's deadline, the call is lost. The client
# cancels a call that is lost.
_LOST_AFTER_SECONDS = 2.0


class AsyncCalls:
    """Makes the calls of the tasks of one event loop. If an event loop runs when this object is
    made, the object belongs to that event loop. If no event loop runs when this object is made, the
    object belongs to the event loop of the first call.
    """

    def __init__(
        self,
        open_channel: Callable[[], grpc.aio.Channel],
        transport: Transport,
        max_in_flight: int,
        recorder: Recorder | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.tracer = tracer
        self.limiter = Limiter(max_in_flight)
        self.recorder = recorder
        self._open_channel = open_channel
        self._transport = transport
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: grpc.aio.Channel | None = None
        self._unary: dict[str, Callable[..., Any]] = {}
        self._watch: Any = None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._open(loop)

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._channel = self._open_channel()
        self._unary = unary_of(self._channel)
        self._watch = watch_of(self._channel)
        self._loop = loop

    def _begin(self) -> None:
        """Opens the channel if this is the first call. Raises Unavailable if the client is closed,
        and RuntimeError if this object belongs to another event loop.
        """
        if self.limiter.closed:
            raise client_closed()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._open(loop)
        elif self._loop is not loop:
            raise RuntimeError("this client belongs to another event loop: make one in each")

    async def make(self, method: str, request: Message, seconds: float) -> Any:
        """Makes one call, and returns its response. `seconds` is the timeout of the call, with its
        retries and its wait for a slot.
        """
        self._begin()
        with recorded(self.recorder, method):
            if not self.limiter.try_acquire():
                seconds = await self._wait(seconds)
            return await self._make_in_slot(method, request, seconds)

    async def make_in_slot(
        self, method: str, request: Message, seconds: float, askers: Sequence[Any] | None = None
    ) -> Any:
        """Makes a call in a slot that was acquired before, and releases the slot. `askers` are the
        contexts of the spans of the callers whose validations are in the call. The span of the call
        is a child of the first caller's span, and has links to the spans of all further callers.
        """
        with recorded(self.recorder, method):
            return await self._make_in_slot(method, request, seconds, askers)

    async def _make_in_slot(
        self, method: str, request: Message, seconds: float, askers: Sequence[Any] | None = None
    ) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        try:
            for pause in PAUSES_SECONDS:
                try:
                    left = deadline - loop.time()
                    return await self._attempt(method, request, left, askers)
                except grpc.RpcError as error:
                    if not was_dropped(error) or loop.time() + pause >= deadline:
                        raise
                await asyncio.sleep(pause)
                if self.recorder is not None:
                    self.recorder.retry(method)
            return await self._attempt(method, request, deadline - loop.time(), askers)
        except (grpc.RpcError, asyncio.CancelledError) as error:
            raise failure_of(error, closed=self.limiter.closed) from None
        finally:
            self.limiter.release()

    async def _attempt(
        self, method: str, request: Message, seconds: float, askers: Sequence[Any] | None
    ) -> Any:
        if self.limiter.closed:
            raise client_closed()
        metadata = self._transport.metadata()
        if self.tracer is None:
            return await self._send(method, request, seconds, metadata)
        span = self.tracer.begin(method, askers)
        try:
            answer = await self._send(method, request, seconds, (*metadata, *span.headers))
        except BaseException as error:
            span.end(error)
            raise
        span.end()
        return answer

    async def _send(self, method: str, request: Message, seconds: float, metadata: Metadata) -> Any:
        call = self._unary[method](request, timeout=seconds, metadata=metadata)
        loop = asyncio.get_running_loop()
        guard = loop.call_later(seconds + _LOST_AFTER_SECONDS, call.cancel)
        try:
            return await call
        finally:
            guard.cancel()

    async def watch(
        self, request: pb.WatchEventsRequest
    ) -> AsyncGenerator[pb.WatchEventsResponse, None]:
        """Yields the messages of a watch. A watch does not need a slot."""
        self._begin()
        stream = self._watch(request, metadata=self._transport.metadata())
        try:
            async for message in stream:
                yield message
        except (grpc.RpcError, asyncio.CancelledError) as error:
            raise failure_of(error, closed=self.limiter.closed) from None
        finally:
            stream.cancel()

    async def close(self) -> None:
        """Ends all calls that are under way or wait for a slot, and refuses new calls."""
        self.limiter.close()
        if self._channel is not None:
            await self._channel.close()

    async def _wait(self, seconds: float) -> float:
        """Waits for a slot. Returns how many of the `seconds` are left after the wait."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        slot: asyncio.Future[None] = loop.create_future()
        granted = partial(grant, slot)
        if not self.limiter.acquire_or_queue(granted):
            expiry = loop.call_later(seconds, granted, self.limiter.timed_out())
            try:
                await slot
            except BaseException:
                self.limiter.withdraw(granted)
                # The caller was cancelled at the moment at which the slot was granted.
                if not slot.cancelled() and slot.exception() is None:
                    self.limiter.release()
                raise
            finally:
                expiry.cancel()
        return deadline - loop.time()
