"""What every call passes before it reaches its handler.

The guard turns calls away when too much is under way, asks the authorizer who calls, and only then
reads the request: it stands between grpc.aio and a unary method as a method that takes a stream, so
that strangers can't make the process hold what they send. It takes the request as bytes, so that a
method's own size limit is checked before anything is decoded, keeps the call inside its deadline,
and lets no exception out: grpc.aio would send its text to the caller.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from session_authority.domain.errors import (
    AuthorityError,
    DeadlineTooShort,
    MalformedMessage,
    MessageTooLarge,
    Overloaded,
    Stopping,
)
from session_authority.rpc.authorization import Authorizer
from session_authority.rpc.status import failure_of
from session_authority.runtime.metrics import Metrics

MAX_MESSAGE_BYTES = 64 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_METHODS = frozenset({"BatchValidateSessions"})
# A batch weighs as much as one call for each so many bytes, which a handful of its items have.
_BATCH_BYTES_PER_CALL = 4 * 1024
# Answered however much is under way: a probe must not take a busy server for a dead one.
_UNLIMITED = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List"})
# A deadline is kept with this much to spare, for the answer's way back.
_DEADLINE_MARGIN = timedelta(milliseconds=10)
# Callers without a deadline get this one.
_MAX_CALL_TIME = timedelta(seconds=10)

_Handler = Any  # grpc.RpcMethodHandler has no usable type


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much may be under way in one process: unary calls, and streams of each method; and of all
    on one connection.

    What a connection wants beyond that waits with its client, which costs this process nothing.
    Refusing a call costs nearly as much as answering it: against clients that come back at once,
    limits on what is answered would not help. But clients on gRPC's core 1.83 and later now and
    then lose a call that was given up while it waited there, which then never ends: so the limit is
    one that only a flood reaches, and what RFC 9113 (section 6.5.2) recommends at the least.
    """

    calls: int = 256
    streams: int = 1000
    per_connection: int = 100


class Guard(grpc.aio.ServerInterceptor):
    """Wraps each method's handler once, and remembers it."""

    def __init__(self, metrics: Metrics, authorizer: Authorizer, capacity: Capacity) -> None:
        self._metrics = metrics
        self._authorizer = authorizer
        self._load = _Load(capacity.calls)
        self._streams = _Streams(authorizer, capacity.streams)
        self._guarded: dict[str, _Handler] = {}

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
        """The guarded handler of the called method; None if there is none, which grpc answers with
        UNIMPLEMENTED.
        """
        guarded = self._guarded.get(details.method)
        if guarded is None:
            handler = await continuation(details)
            if handler is None:
                return None  # not remembered: anyone can make method names up
            guarded = self._guarded[details.method] = self._guard(details.method, handler)
        return guarded

    def _guard(self, path: str, handler: _Handler) -> _Handler:
        if handler.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                _Call(path, handler, self._metrics, self._authorizer, self._load).run,
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _guarded_stream(
                    path,
                    handler.unary_stream,
                    self._metrics,
                    self._streams,
                    handler.request_deserializer,
                ),
                response_serializer=_unless_serialized(handler.response_serializer),
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _guarded_stream(path, handler.stream_stream, self._metrics, self._streams),
                handler.request_deserializer,
                handler.response_serializer,
            )
        raise NotImplementedError("no method takes a stream and answers once")


class _Load:
    """The unary calls that are under way, and what they weigh."""

    def __init__(self, limit: int) -> None:
        self._max = limit
        self._weight = self._calls = 0
        self.none = asyncio.Event()
        self.none.set()

    def fits(self, weight: int, held: int = 0) -> bool:
        """Whether a call that holds so much may have that much more. What is too heavy for any
        limit may be, alone.
        """
        return self._weight + weight <= self._max or self._weight == held

    @contextmanager
    def of(self, weight: int) -> Iterator[None]:
        """Counts a call in."""
        self._weight += weight
        self._calls += 1
        self.none.clear()
        try:
            yield
        finally:
            self._weight -= weight
            self._calls -= 1
            if not self._calls:
                self.none.set()


class _Call:
    """How one unary method is called."""

    def __init__(
        self, path: str, handler: _Handler, metrics: Metrics, authorizer: Authorizer, load: _Load
    ) -> None:
        self._path = path
        self._name = path.rpartition("/")[2]
        self._authorizer = authorizer
        self._load = load
        self._limited = path not in _UNLIMITED
        self._is_batch = self._name in _BATCH_METHODS
        self._behavior = handler.unary_unary
        self._decode = handler.request_deserializer
        self._limit = MAX_BATCH_BYTES if self._is_batch else MAX_MESSAGE_BYTES
        self._counts = {
            code: metrics.rpcs.labels(self._name, code.name) for code in grpc.StatusCode
        }
        self._seconds = metrics.rpc_seconds.labels(self._name)

    async def run(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        weight = 1 if self._limited else 0
        fits = not weight or self._load.fits(weight)
        with self._load.of(weight if fits else 0):
            return await self._run(context, fits)

    async def _run(self, context: grpc.aio.ServicerContext[Any, Any], fits: bool) -> Any:
        started = time.perf_counter()
        try:
            seconds = self._time_for(context, fits)
            self._authorizer.admit(self._path, context)
            async with asyncio.timeout(seconds):
                answer = await self._answer(await _read(context, self._limit), context)
        except asyncio.CancelledError:
            self._counts[grpc.StatusCode.CANCELLED].inc()
            raise
        except grpc.aio.AbortError:  # of gRPC's own handlers only; the health service aborts
            raise
        except Exception as error:  # noqa: BLE001
            # The last line of defence: its text must not reach the caller.
            failure = failure_of(error, self._name)
        else:
            self._counts[grpc.StatusCode.OK].inc()
            return answer
        finally:
            self._seconds.observe(time.perf_counter() - started)
        self._counts[failure.code].inc()
        return await context.abort_with_status(failure.status())

    def _time_for(self, context: grpc.aio.ServicerContext[Any, Any], fits: bool) -> float:
        """The seconds that the call may take. Raises Overloaded and DeadlineTooShort."""
        left: float | None = context.time_remaining()
        longest = _MAX_CALL_TIME.total_seconds()
        seconds = longest if left is None else min(left - _DEADLINE_MARGIN.total_seconds(), longest)
        if seconds <= 0:
            raise DeadlineTooShort
        if not fits:
            raise Overloaded
        return seconds

    async def _answer(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        more = max(len(body) // _BATCH_BYTES_PER_CALL - 1, 0) if self._is_batch else 0
        if more and not self._load.fits(more, held=1):
            raise Overloaded
        with self._load.of(more):
            return await self._behavior(_decoded(self._decode, body), context)


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


class _Stream:
    """One stream that is under way."""

    def __init__(self, path: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.path = path
        self.context = context
        self.timeout = asyncio.timeout(None)
        self.refusal: AuthorityError | None = None

    def end(self, refusal: AuthorityError) -> None:
        """Ends it with a TimeoutError; `refusal` is what its caller is told."""
        if self.refusal is None:
            self.refusal = refusal
            self.timeout.reschedule(asyncio.get_running_loop().time())


class _Streams:
    """The streams that are under way."""

    def __init__(self, authorizer: Authorizer, limit: int) -> None:
        self._authorizer = authorizer
        self._max = limit
        self._streams: dict[str, set[_Stream]] = {}

    @contextmanager
    def admitted(self, stream: _Stream) -> Iterator[None]:
        """Counts one in. Raises Overloaded, CallerUnknown and CallerNotAllowed."""
        others = self._streams.setdefault(stream.path, set())
        if len(others) >= self._max:
            raise Overloaded
        self._authorizer.admit(stream.path, stream.context)
        others.add(stream)
        try:
            yield
        finally:
            others.discard(stream)

    def all(self) -> list[_Stream]:
        """Those that are under way."""
        return [stream for streams in self._streams.values() for stream in streams]

    def end_all(self) -> None:
        """Ends them all."""
        for stream in self.all():
            stream.end(Stopping())

    def recheck(self) -> None:
        """Ends those that would not be let in now."""
        for stream in self.all():
            try:
                copy_context().run(self._authorizer.admit, stream.path, stream.context)
            except AuthorityError as error:
                stream.end(error)


def _guarded_stream(
    path: str,
    behavior: Callable[..., Any],
    metrics: Metrics,
    streams: _Streams,
    decode: Callable[[bytes], Any] | None = None,
) -> Callable[..., Awaitable[None]]:
    """With `decode` given, the guarded method takes one request. It may be a generator or write by
    itself.
    """
    name = path.rpartition("/")[2]
    counts = {code: metrics.rpcs.labels(name, code.name) for code in grpc.StatusCode}

    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if decode is not None:
            async with asyncio.timeout(_MAX_CALL_TIME.total_seconds()):
                request = _decoded(decode, await _read(context, MAX_MESSAGE_BYTES))
        answers = behavior(request, context)
        if not inspect.isasyncgen(answers):
            await answers
            return
        async with aclosing(answers):
            async for message in answers:
                await context.write(message)

    async def run(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        stream = _Stream(path, context)
        try:
            with streams.admitted(stream):
                async with stream.timeout:
                    await answer(request, context)
        except asyncio.CancelledError:
            counts[grpc.StatusCode.CANCELLED].inc()
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001
            # The last line of defence: its text must not reach the caller.
            ended = stream.refusal if isinstance(error, TimeoutError) else None
            failure = failure_of(ended or error, name)
        else:
            counts[grpc.StatusCode.OK].inc()
            return
        counts[failure.code].inc()
        await context.abort_with_status(failure.status())

    return run
