"""Defines an interceptor of gRPC that checks every call before the call reaches its handler.

The interceptor, `Guard`, identifies the caller first, and reads the request only afterward. So
callers that are refused can't fill the memory of the process with requests. By default, grpc.aio
reads the request of a unary method before it calls the handler of the method. Therefore `Guard`
declares each unary method to grpc.aio as a method that takes a stream of requests. Methods that
standing tasks answer also read their requests only after the caller is identified.
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

# A watch occupies one slot for each 64 KiB of its request, because the request stays in memory
# until the watch ends.
_WATCH_BYTES_PER_PLACE = 64 * 1024
_UNIMPLEMENTED = code_number(grpc.StatusCode.UNIMPLEMENTED)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The limits of one process. `calls` is the number of slots for running unary calls. `streams`
    is the number of slots for the streams of each method. `per_connection` limits the calls at the
    same time on one connection. `connections` limits the connections of one port.

    If a connection has reached its limit of calls, further calls wait in the client, which costs
    this process nothing. Refusing a call costs nearly as much as answering a call, so refusals
    would not help against clients that try again at once.

    The default of `per_connection` is so high that only a flood of calls reaches the limit. The
    reason is a fault in clients on gRPC's core 1.83 to 1.85.3, and perhaps in later ones: a call
    that is cancelled while it waits in the client sometimes never ends. RFC 9113 (section 6.5.2)
    recommends allowing at least 100 calls at the same time on a connection.
    """

    calls: int = 256
    streams: int = 1000
    per_connection: int = 100
    connections: int = 1000


class Guard(grpc.aio.ServerInterceptor):
    """Wraps the handler of each method, so that each call is checked before the handler is called.
    The wrapped handlers are cached.
    """

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

        Running streams do not count, because streams end when the server stops.
        """
        await self._load.none.wait()

    @property
    def places_taken(self) -> int:
        """The number of slots that the running unary calls occupy."""
        return self._load.share.held

    @property
    def is_streaming(self) -> bool:
        """True if at least one stream is running."""
        return bool(self._streams.all())

    def end_streams(self) -> None:
        """Ends all streams, because streams do not end by themselves. The callers of the streams
        get the error Stopping.
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
        """Returns the wrapped handler of the called method. If the method does not exist, returns a
        handler that refuses the call.
        """
        guarded = self._guarded.get(details.method)
        if guarded is None:
            handler = await continuation(details)
            if handler is None:
                return self._no_method  # not cached: clients can invent names of methods
            guarded = self._guarded[details.method] = self._guard(details.method, handler)
        return guarded

    def unary(self, path: str, handler: Handler) -> UnaryMethod:
        """Returns an object that checks and answers the calls of a unary method."""
        parts = (self._metrics, self._authorizer, self._load, self.peers)
        if self._is_observed(path):
            return ObservedUnary(path, handler, self._observer, *parts)
        return UnaryMethod(path, handler, *parts)

    def _is_observed(self, path: str) -> bool:
        """Returns True if the calls of this method are reported to the observer.

        Calls of methods that unknown callers may call are never reported.
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
