"""What every call passes before it reaches its handler.

The guard asks the authorizer who calls, and only then reads the request: it stands between grpc.aio
and a unary method as a method that takes a stream, so that strangers can't make the process hold
what they send. It takes the request as bytes, so that a method's own size limit is checked before
anything is decoded, keeps the call inside its deadline, and lets no exception out: grpc.aio would
send its text to the caller.

A call counts while it is carried out, and not while the service waits for its peer: neither before
its request is there, nor while its answer or its refusal lies there to be read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from session_authority.domain.deadlines import seconds_to_work
from session_authority.domain.errors import (
    DeadlineTooShort,
    MalformedMessage,
    MessageTooLarge,
    Overloaded,
)
from session_authority.domain.fair_share import FairShare
from session_authority.rpc.authorization import Authorizer
from session_authority.rpc.peers import Peer, Peers
from session_authority.rpc.status import failure_of
from session_authority.rpc.streams import StreamMethod, Streams
from session_authority.runtime.metrics import Metrics

MAX_MESSAGE_BYTES = 64 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024
# Enough for 1,000 user IDs of 255 characters, whatever the characters are.
MAX_WATCH_BYTES = 1024 * 1024
# Enough for 500 names of sessions, whatever the characters of their users are.
MAX_NAMES_BYTES = 1024 * 1024
_MAX_BYTES = {
    "BatchValidateSessions": MAX_BATCH_BYTES,
    "CheckSessions": MAX_NAMES_BYTES,
    "WatchEvents": MAX_WATCH_BYTES,
}
_BATCH_METHODS = frozenset({"BatchValidateSessions", "CheckSessions"})
# A batch weighs as much as one call for each so many bytes, which a handful of its items have.
_BATCH_BYTES_PER_CALL = 4 * 1024
# A watch weighs as much as one for each so many bytes: it keeps them for as long as it lasts.
_WATCH_BYTES_PER_PLACE = 64 * 1024
# Answered however much is under way: a probe must not take a busy server for a dead one.
_UNLIMITED = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List"})
# Callers without a deadline get this one.
_MAX_CALL_TIME = timedelta(seconds=10)
# From the arrival of an admitted call until its whole request is there. A client on a slow link
# sends 64 KiB in this time at 0.5 Mbit/s, and the largest batch at 34 Mbit/s.
_MAX_BODY_TIME = timedelta(seconds=1)
# The share that calls of nobody would have.
_STRANGERS = ""
# Requests of one caller that are on their way. They keep no other caller from calling, but memory.
_MAX_ARRIVING_PER_CALLER = 1000

_Handler = Any  # grpc.RpcMethodHandler has no usable type


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much may be under way in one process: unary calls, and streams of each method; of all on
    one connection; and how many connections a port may have.

    What a connection wants beyond that waits with its client, which costs this process nothing.
    Refusing a call costs nearly as much as answering it: against clients that come back at once,
    limits on what is answered would not help. But clients on gRPC's core 1.83 and later now and
    then lose a call that was given up while it waited there, which then never ends: so the limit is
    one that only a flood reaches, and what RFC 9113 (section 6.5.2) recommends at the least.
    """

    calls: int = 256
    streams: int = 1000
    per_connection: int = 100
    connections: int = 1000


class Guard(grpc.aio.ServerInterceptor):
    """Wraps each method's handler once, and remembers it."""

    def __init__(self, metrics: Metrics, authorizer: Authorizer, capacity: Capacity) -> None:
        self._metrics = metrics
        self._authorizer = authorizer
        self.peers = Peers()
        self._load = _Load(capacity.calls)
        self._streams = Streams(authorizer, capacity.streams)
        self._guarded: dict[str, _Handler] = {}
        self._no_method: _Handler = grpc.stream_unary_rpc_method_handler(self._refuse)

    async def idle(self) -> None:
        """Waits until no handler of a unary call is running. Streams don't count: they end when the
        server does.
        """
        await self._load.none.wait()

    @property
    def is_streaming(self) -> bool:
        """Whether any stream is under way."""
        return bool(self._streams.all())

    def end_streams(self) -> None:
        """Ends all streams, which would not end by themselves; their callers are told that the
        service stops.
        """
        self._streams.end_all()

    def recheck_streams(self) -> None:
        """Ends the streams that would be refused now."""
        self._streams.recheck()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """The guarded handler of the called method; if there is none, one that refuses the call."""
        guarded = self._guarded.get(details.method)
        if guarded is None:
            handler = await continuation(details)
            if handler is None:
                return self._no_method  # not remembered: anyone can make method names up
            guarded = self._guarded[details.method] = self._guard(details.method, handler)
        return guarded

    async def _refuse(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.peers.leave(self.peers.enter(context))
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    def _guard(self, path: str, handler: _Handler) -> _Handler:
        if handler.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                _Method(path, handler, self._metrics, self._authorizer, self._load, self.peers).run,
                response_serializer=_unless_serialized(handler.response_serializer),
            )
        if handler.unary_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(path, handler.unary_stream, handler.request_deserializer).run,
                response_serializer=_unless_serialized(handler.response_serializer),
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
        limit = _limit_of(path)

        async def first(context: grpc.aio.ServicerContext[Any, Any]) -> tuple[Any, int]:
            try:
                async with asyncio.timeout(_MAX_BODY_TIME.total_seconds()):
                    body = await _read(context, limit)
            except TimeoutError:
                raise _too_slow() from None
            assert decode is not None
            return _decoded(decode, body), max(1, -(-len(body) // _WATCH_BYTES_PER_PLACE))

        return StreamMethod(
            path,
            behavior,
            self._metrics,
            self._authorizer,
            self._streams,
            self.peers,
            None if decode is None else first,
        )


class _Load:
    """The unary calls that are carried out, what they weigh, and the requests on their way."""

    def __init__(self, limit: int) -> None:
        self.share = FairShare(limit)
        self.arriving: dict[str, int] = {}
        self.calls = 0
        self.none = asyncio.Event()
        self.none.set()

    def begin(self, caller: str, weight: int) -> None:
        """Counts a call in."""
        self.share.take(caller, weight)
        self.calls += 1
        if self.calls == 1:
            self.none.clear()

    def end(self, caller: str, weight: int) -> None:
        """Counts it out."""
        self.share.give_back(caller, weight)
        self.calls -= 1
        if not self.calls:
            self.none.set()


class _Method:
    """How one unary method is called."""

    def __init__(
        self,
        path: str,
        handler: _Handler,
        metrics: Metrics,
        authorizer: Authorizer,
        load: _Load,
        peers: Peers,
    ) -> None:
        self._path = path
        self._name = path.rpartition("/")[2]
        self._authorizer = authorizer
        self._load = load
        self._peers = peers
        self._limited = path not in _UNLIMITED
        self._is_batch = self._name in _BATCH_METHODS
        self._behavior = handler.unary_unary
        self._decode = handler.request_deserializer
        self._limit = _limit_of(path)
        self._counts = {
            code: metrics.rpcs.labels(self._name, code.name) for code in grpc.StatusCode
        }
        self._seconds = metrics.rpc_seconds.labels(self._name)

    async def run(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        started = time.perf_counter()
        peer = self._peers.enter(context)
        try:
            answer = await self._answer(peer, context)
        except asyncio.CancelledError:
            self._counts[grpc.StatusCode.CANCELLED].inc()
            raise
        except grpc.aio.AbortError:  # of a handler that aborts by itself
            raise
        except Exception as error:  # noqa: BLE001
            # The last line of defence: its text must not reach the caller.
            failure = failure_of(error, self._name)
        else:
            self._counts[grpc.StatusCode.OK].inc()
            return answer
        finally:
            self._seconds.observe(time.perf_counter() - started)
            self._peers.leave(peer)
        self._counts[failure.code].inc()
        return await context.abort_with_status(failure.status())

    async def _answer(self, peer: Peer, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        seconds = _time_for(context)
        caller = self._authorizer.admit(self._path, context)
        if caller is not None:
            peer.caller = caller.name
        name = _STRANGERS if caller is None else caller.name
        sole = self._authorizer.has_one_caller
        if self._limited and not self._load.share.fits(name, 1, sole=sole):
            raise Overloaded  # before anything is read
        body_seconds = min(seconds, _MAX_BODY_TIME.total_seconds())
        arrived = False
        try:
            async with asyncio.timeout(body_seconds) as deadline:
                body = await self._arrival(name, context)
                arrived = True
                deadline.reschedule((deadline.when() or 0.0) - body_seconds + seconds)
                return await self._carry_out(name, body, context, sole=sole)
        except TimeoutError:
            if arrived:
                raise
            raise _too_slow() from None

    async def _arrival(self, caller: str, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """The request, once it is there. Raises Overloaded, MessageTooLarge, MalformedMessage."""
        arriving = self._load.arriving
        count = arriving.get(caller, 0)
        if count >= _MAX_ARRIVING_PER_CALLER and self._limited:
            raise Overloaded
        arriving[caller] = count + 1
        try:
            return await _read(context, self._limit)
        finally:
            arriving[caller] -= 1
            if not arriving[caller]:
                del arriving[caller]

    async def _carry_out(
        self,
        caller: str,
        body: bytes,
        context: grpc.aio.ServicerContext[Any, Any],
        *,
        sole: bool,
    ) -> Any:
        load, weight = self._load, int(self._limited)
        if self._is_batch:
            # A batch that is too heavy for any caller may be, alone.
            weight = max(1, min(len(body) // _BATCH_BYTES_PER_CALL, load.share.most(sole=sole)))
        if weight and not load.share.fits(caller, weight, sole=sole):
            raise Overloaded
        load.begin(caller, weight)
        try:
            return await self._behavior(_decoded(self._decode, body), context)
        finally:
            load.end(caller, weight)


def _limit_of(path: str) -> int:
    """The bytes that a request of a method may have."""
    return _MAX_BYTES.get(path.rpartition("/")[2], MAX_MESSAGE_BYTES)


def _time_for(context: grpc.aio.ServicerContext[Any, Any]) -> float:
    """The seconds that a call may take. Raises DeadlineTooShort."""
    left: float | None = context.time_remaining()
    longest = _MAX_CALL_TIME.total_seconds()
    seconds = longest if left is None else min(seconds_to_work(left), longest)
    if seconds <= 0:
        raise DeadlineTooShort
    return seconds


def _too_slow() -> DeadlineTooShort:
    return DeadlineTooShort("the request took too long to arrive")


async def _read(context: grpc.aio.ServicerContext[Any, Any], limit: int) -> bytes:
    """The one message of a request. Raises MessageTooLarge, and MalformedMessage if there is none:
    one that gRPC itself would not read, and answered, is told of in no other way.
    """
    body = await context.read()
    if body is grpc.aio.EOF:
        raise MalformedMessage
    assert isinstance(body, bytes)
    if len(body) > limit:
        raise MessageTooLarge(len(body), limit)
    return body


def _decoded(decode: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return decode(body)
    except DecodeError:
        raise MalformedMessage from None


def _unless_serialized(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """A message that goes to many is serialised once, and passes as it is."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)
