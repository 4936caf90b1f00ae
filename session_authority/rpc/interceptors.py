"""What every call passes before it reaches its handler.

The guard takes the request as bytes, so that a method's own size limit is checked before anything is decoded; keeps the
call inside its deadline; and lets no exception out: grpc.aio would send its text to the caller.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from session_authority.domain.errors import (
    AuthorityError,
    DeadlineTooShort,
    MalformedMessage,
    MessageTooLarge,
    StoreUnavailable,
)
from session_authority.metrics import Metrics
from session_authority.rpc.status import failure_of, failure_of_fault

MAX_MESSAGE_BYTES = 64 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_METHODS = frozenset({"BatchValidateSessions"})
# A deadline is kept with this much to spare, for the answer's way back.
_SPARE = timedelta(milliseconds=10)
# Callers without a deadline get this one.
_LONGEST_CALL = timedelta(seconds=10)

_Handler = Any  # grpc.RpcMethodHandler has no usable type


class Guard(grpc.aio.ServerInterceptor):
    """Wraps each method's handler once, and remembers it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._under_way = _UnderWay()
        self._guarded: dict[str, _Handler] = {}

    async def idle(self) -> None:
        """Waits until no handler of a unary call is running. Streams don't count: they end when the server does."""
        await self._under_way.none.wait()

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]], details: grpc.HandlerCallDetails
    ) -> _Handler:
        """The guarded handler of the called method; None if there is none, which grpc answers with UNIMPLEMENTED."""
        guarded = self._guarded.get(details.method)
        if guarded is None:
            handler = await continuation(details)
            if handler is None:
                return None  # not remembered: anyone can make method names up
            guarded = self._guarded[details.method] = self._guard(details.method, handler)
        return guarded

    def _guard(self, method: str, handler: _Handler) -> _Handler:
        name = method.rpartition("/")[2]
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                _Call(name, handler, self._metrics, self._under_way).run,
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _guarded_stream(name, handler.unary_stream, self._metrics, handler.request_deserializer),
                response_serializer=_unless_serialized(handler.response_serializer),
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _guarded_stream(name, handler.stream_stream, self._metrics),
                handler.request_deserializer,
                handler.response_serializer,
            )
        raise NotImplementedError("no method takes a stream and answers once")


class _UnderWay:
    """Counts the calls that are inside it."""

    def __init__(self) -> None:
        self._count = 0
        self.none = asyncio.Event()
        self.none.set()

    def __enter__(self) -> None:
        self._count += 1
        self.none.clear()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._count -= 1
        if not self._count:
            self.none.set()


class _Call:
    """How one unary method is called."""

    def __init__(self, name: str, handler: _Handler, metrics: Metrics, under_way: _UnderWay) -> None:
        self._name = name
        self._under_way = under_way
        self._behavior = handler.unary_unary
        self._decode = handler.request_deserializer
        self._limit = MAX_BATCH_BYTES if name in _BATCH_METHODS else MAX_MESSAGE_BYTES
        self._counts = {code: metrics.rpcs.labels(name, code.name) for code in grpc.StatusCode}
        self._seconds = metrics.rpc_seconds.labels(name)

    async def run(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with self._under_way:
            return await self._run(body, context)

    async def _run(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        started = time.perf_counter()
        try:
            answer = await self._answer(body, context)
        except AuthorityError as error:
            failure = failure_of(error)
        except TimeoutError:
            failure = failure_of(StoreUnavailable())
        except asyncio.CancelledError:
            self._counts[grpc.StatusCode.CANCELLED].inc()
            raise
        except grpc.aio.AbortError:  # only grpc's own handlers abort by themselves; the health service does
            raise
        except Exception as error:  # noqa: BLE001 - the last line of defence: its text must not reach the caller
            failure = failure_of_fault(self._name, error)
        else:
            self._counts[grpc.StatusCode.OK].inc()
            return answer
        finally:
            self._seconds.observe(time.perf_counter() - started)
        self._counts[failure.code].inc()
        return await context.abort_with_status(failure.status())

    async def _answer(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if len(body) > self._limit:
            raise MessageTooLarge(len(body), self._limit)
        request = _decoded(self._decode, body)
        left: float | None = context.time_remaining()
        longest = _LONGEST_CALL.total_seconds()
        seconds = longest if left is None else min(left - _SPARE.total_seconds(), longest)
        if seconds <= 0:
            raise DeadlineTooShort
        async with asyncio.timeout(seconds):
            return await self._behavior(request, context)


def _decoded(decode: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return decode(body)
    except DecodeError:
        raise MalformedMessage from None


def _unless_serialized(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """A message that goes to many is serialised once, and passes as it is."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)


def _guarded_stream(
    name: str, behavior: Callable[..., Any], metrics: Metrics, decode: Callable[[bytes], Any] | None = None
) -> Callable[..., Awaitable[None]]:
    """With `decode` given, the guarded method takes one request, as bytes. It may be a generator or write by itself."""
    counts = {code: metrics.rpcs.labels(name, code.name) for code in grpc.StatusCode}

    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if decode is not None:
            if len(request) > MAX_MESSAGE_BYTES:
                raise MessageTooLarge(len(request), MAX_MESSAGE_BYTES)
            request = _decoded(decode, request)
        answers = behavior(request, context)
        if not inspect.isasyncgen(answers):
            await answers
            return
        async with aclosing(answers):
            async for message in answers:
                await context.write(message)

    async def run(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            await answer(request, context)
        except asyncio.CancelledError:
            counts[grpc.StatusCode.CANCELLED].inc()
            raise
        except grpc.aio.AbortError:
            raise
        except AuthorityError as error:
            failure = failure_of(error)
        except TimeoutError:
            failure = failure_of(StoreUnavailable())
        except Exception as error:  # noqa: BLE001 - the last line of defence: its text must not reach the caller
            failure = failure_of_fault(name, error)
        else:
            counts[grpc.StatusCode.OK].inc()
            return
        counts[failure.code].inc()
        await context.abort_with_status(failure.status())

    return run
