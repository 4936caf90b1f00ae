"""Checks every call before the call reaches its handler, as an interceptor of gRPC.

The guard asks the authorizer for the caller, and reads the request only afterwards. For this
purpose it offers each unary method to grpc.aio as a method that takes a stream. So unknown callers
can't make the process hold their data. Methods that standing tasks answer read their requests in
the same way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from session_authority.access import ROWS
from session_authority.domain.refusals import UNKNOWN_METHOD
from session_authority.rpc.authorization import Authorizer
from session_authority.rpc.long_calls import unless_given_up
from session_authority.rpc.observing import ObservedStream, ObservedUnary, Observer
from session_authority.rpc.peers import Peers
from session_authority.rpc.status import code_number
from session_authority.rpc.streams import StreamMethod, Streams
from session_authority.rpc.unary import (
    MAX_BODY_SECONDS,
    Handler,
    Load,
    UnaryMethod,
    checked,
    decoded,
    limit_of,
    too_slow,
    unless_serialized,
)
from session_authority.runtime.metrics import Metrics

# A watch occupies one place for each 64 KiB of its request, because the request stays in memory
# until the watch ends.
_WATCH_BYTES_PER_PLACE = 64 * 1024
_UNIMPLEMENTED = code_number(grpc.StatusCode.UNIMPLEMENTED)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The limits of one process. They apply to the places of unary calls under way, to the places
    of the streams of each method, to the calls of one connection, and to the connections of a port.

    Calls of a connection beyond its limit wait in the client, which costs this process nothing.
    Refusing a call costs nearly as much as answering it, so refusals would not help against clients
    that try again at once. But clients on gRPC's core 1.83 to 1.85.3, and perhaps later ones, have
    a fault. A call that is cancelled while it waits in the client sometimes gets lost, and never
    ends. So the default limit is so high that only a flood reaches it. RFC 9113 (section 6.5.2)
    recommends no lower limit than this default.
    """

    calls: int = 256
    streams: int = 1000
    per_connection: int = 100
    connections: int = 1000


class Guard(grpc.aio.ServerInterceptor):
    """Wraps the handler of each method with its checks, and remembers the wrapped handler."""

    def __init__(
        self,
        metrics: Metrics,
        authorizer: Authorizer,
        capacity: Capacity,
        observer: Observer | None = None,
    ) -> None:
        self._metrics = metrics
        self._observer = observer or Observer()
        self._authorizer = authorizer
        self.peers = Peers()
        self._load = Load(capacity.calls)
        self._streams = Streams(authorizer, capacity.streams)
        self._guarded: dict[str, Handler] = {}
        self._no_method: Handler = grpc.stream_unary_rpc_method_handler(self._refuse)

    async def idle(self) -> None:
        """Waits until no handler of a unary call is running.

        Streams don't count, as they end with the server.
        """
        await self._load.none.wait()

    @property
    def places_taken(self) -> int:
        """The number of places that the unary calls under way occupy."""
        return self._load.share.held

    @property
    def is_streaming(self) -> bool:
        """True if a stream is under way."""
        return bool(self._streams.all())

    def end_streams(self) -> None:
        """Ends all streams, which would not end by themselves. Their callers get the error
        Stopping.
        """
        self._streams.end_all()

    def recheck_streams(self) -> None:
        """Ends the streams that would be refused if they started now."""
        self._streams.recheck()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Returns the guarded handler of the called method. If there is no such method, the handler
        refuses the call.
        """
        guarded = self._guarded.get(details.method)
        if guarded is None:
            handler = await continuation(details)
            if handler is None:
                return self._no_method  # not remembered, as clients can make up names
            guarded = self._guarded[details.method] = self._guard(details.method, handler)
        return guarded

    def unary(self, path: str, handler: Handler) -> UnaryMethod:
        """Returns the guarded form of a unary method."""
        parts = (self._metrics, self._authorizer, self._load, self.peers)
        if self._is_observed(path):
            return ObservedUnary(path, handler, self._observer, *parts)
        return UnaryMethod(path, handler, *parts)

    def _is_observed(self, path: str) -> bool:
        """Returns True if the observer observes this method.

        The observer observes no method that is open to unknown callers.
        """
        row = ROWS.get(path)
        is_public = row is not None and row.public
        return not is_public and self._observer.observes(path.rpartition("/")[2])

    async def _refuse(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        began_at = time.perf_counter()
        calls = self._metrics.calls.of_unknown_methods()
        calls.started += 1
        self._metrics.refused(UNKNOWN_METHOD)
        self.peers.leave_with_task(self.peers.enter(context))
        calls.end(None, _UNIMPLEMENTED, time.perf_counter() - began_at)
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    def _guard(self, path: str, handler: Handler) -> Handler:
        if handler.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(self.unary(path, handler).run)
        if handler.unary_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(path, handler.unary_stream, handler.request_deserializer).run,
                response_serializer=unless_serialized(handler.response_serializer),
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(path, handler.stream_stream, None).run,
                handler.request_deserializer,
                handler.response_serializer,
            )
        raise NotImplementedError("no method takes a stream and answers once")

    def _stream(
        self, path: str, behavior: Callable[..., Any], decode: Callable[[bytes], Any] | None
    ) -> StreamMethod:
        limit = limit_of(path)

        async def first(context: grpc.aio.ServicerContext[Any, Any]) -> tuple[Any, int]:
            try:
                async with asyncio.timeout(MAX_BODY_SECONDS):
                    message = await context.read()
                    if message is grpc.aio.EOF:
                        await unless_given_up()
                    body = checked(message, limit)
            except TimeoutError:
                raise too_slow() from None
            assert decode is not None
            return decoded(decode, body), max(1, -(-len(body) // _WATCH_BYTES_PER_PLACE))

        wanted = None if decode is None else first
        parts = (self._metrics, self._authorizer, self._streams, self.peers, wanted)
        if self._is_observed(path):
            return ObservedStream(path, behavior, self._observer, *parts)
        return StreamMethod(path, behavior, *parts)
