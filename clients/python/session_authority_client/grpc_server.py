"""Interceptors for apps that are gRPC servers, with asyncio or with threads.

The apps' clients send `authorization: Bearer ...` and `x-device-id` as metadata. A client that is
not signed in gets UNAUTHENTICATED. The text of this status is `token_expired` if the client should
renew its token, and `sign_in_required` otherwise. If the service gives no answer, the client gets
UNAVAILABLE.

Handlers get the visit from `current_visit` or `current_async_visit`. If `require(max_age=...)` of
the visit finds the sign-in too old or too weak, the text is `insufficient_user_authentication`.

The session of a stream is checked when the stream begins. When the session ends, the stream ends
with UNAUTHENTICATED and the text `session_ended`. If the method is public, the stream ends with the
session only if the handler has read the session. `Flow(end_connections=False)` prevents this for
all streams.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context, ContextVar, copy_context
from threading import get_ident
from typing import Any

import grpc

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._shared.grpc_streams import (
    AsyncStreamEnd,
    PlainStreamEnd,
    ThreadStreamEnd,
    session_ended,
)
from session_authority_client._sync.client import SessionAuthority
from session_authority_client.adapter import (
    AsyncVisit,
    AsyncVisits,
    Visit,
    Visits,
)
from session_authority_client.flow import Flow, NoAnswer, Refused

__all__ = ["AsyncSessionInterceptor", "SessionInterceptor", "current_async_visit", "current_visit"]

_Handler = Any  # grpc.RpcMethodHandler has no usable type
_END = object()
_current: ContextVar[AsyncVisit | Visit] = ContextVar("session_authority_client.visit")


def current_visit() -> Visit:
    """Returns the visit of the call that this thread handles, in a gRPC server with threads."""
    visit = _current.get(None)
    if not isinstance(visit, Visit):
        raise RuntimeError("SessionInterceptor is not in front of this handler")
    return visit


def current_async_visit() -> AsyncVisit:
    """Returns the visit of the call that this task, or this thread of a plain function, handles in
    a gRPC server with asyncio.
    """
    visit = _current.get(None)
    if not isinstance(visit, AsyncVisit):
        raise RuntimeError("AsyncSessionInterceptor is not in front of this handler")
    return visit


class AsyncSessionInterceptor(grpc.aio.ServerInterceptor):
    """An interceptor for `grpc.aio.server`. Methods in `public` ("/package.Service/Method") are
    also served to clients that are not signed in. Their handlers have a visit, too.

    Handlers that are plain functions or generators run in the server's threads, as they would
    without the interceptor. They may use the visit's `session` and `require()`. They must run the
    visit's coroutines on the server's event loop. If such a handler serves a public method, its
    stream does not end with the session.

    Raises ValueError if `flow.bearer` is False.
    """

    def __init__(
        self,
        authority: AsyncSessionAuthority | Callable[[], AsyncSessionAuthority],
        *,
        public: Collection[str] = (),
        flow: Flow | None = None,
    ) -> None:
        self._flow = _checked(flow or Flow())
        self._visits = AsyncVisits(authority, self._flow)
        self._public = frozenset(public)

    async def close(self) -> None:
        """Closes the client if the interceptor made it."""
        await self._visits.close()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[_Handler]], handler_call_details: Any
    ) -> _Handler:
        """Wraps the handler of a method. The wrapper opens a visit for each call and, unless the
        method is public, requires a session.
        """
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        public = handler_call_details.method in self._public

        async def admit(context: Any) -> AsyncVisit:
            headers, peer = _headers_of(context, self._flow), _peer_of(context)
            visit = await self._visits.open("POST", headers, peer)
            if not public:
                visit.require()
            return visit

        @asynccontextmanager
        async def entered(context: Any) -> AsyncIterator[AsyncStreamEnd]:
            visit, end = await admit(context), AsyncStreamEnd()
            _current.set(visit)
            if streams:
                visit.hang_up_at_end(end.hang_up)
            try:
                yield end
            finally:
                visit.leave()

        async def unary(request: Any, context: Any) -> Any:
            try:
                async with entered(context) as end:
                    return await end.within(inner(request, context))
            except Refused as refused:
                return await context.abort(_code_of(refused), refused.code)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                async with entered(context) as end:
                    responses = inner(request, context)
                    if inspect.isawaitable(responses):
                        await end.within(responses)  # the handler writes the responses itself
                    else:
                        async for response in end.each(responses):
                            yield response
            except Refused as refused:
                await context.abort(_code_of(refused), refused.code)

        loop, home = asyncio.get_running_loop(), get_ident()

        async def admit_plain(context: Any) -> tuple[AsyncVisit, PlainStreamEnd]:
            visit, end = await admit(context), PlainStreamEnd(context, loop)
            # A public handler reads the session in its own thread. The client can start to listen
            # for the session's end only in the event loop.
            if streams and not public:
                visit.hang_up_at_end(end.hang_up)
            return visit, end

        @contextmanager
        def admitted(context: Any) -> Iterator[tuple[Context, PlainStreamEnd]]:
            """Yields the context variables in which a plain function runs, and the end of its
            stream. Each call has its own copy of the variables: a thread serves many calls, and
            must not keep the visit of an earlier call.
            """
            # If another interceptor called the function on the event loop, as if it were a
            # coroutine, the event loop would wait for itself here.
            if get_ident() == home:
                raise RuntimeError("plain functions must not be called on the event loop")
            handling = copy_context()
            admission = asyncio.run_coroutine_threadsafe(admit_plain(context), loop)
            visit, end = admission.result()
            handling.run(_current.set, visit)
            try:
                yield handling, end
            finally:
                loop.call_soon_threadsafe(visit.leave)

        def plain_unary(request: Any, context: Any) -> Any:
            try:
                with admitted(context) as (handling, _):
                    return handling.run(inner, request, context)
            except Refused as refused:
                return context.abort(_code_of(refused), refused.code)

        def plain_stream(request: Any, context: Any) -> Iterator[Any]:
            try:
                with admitted(context) as (handling, end):
                    responses = iter(handling.run(inner, request, context))
                    while (response := handling.run(next, responses, _END)) is not _END:
                        if end.has_come:
                            raise session_ended()
                        yield response
            except Refused as refused:
                # This does not call `abort`: the previous response may still be on its way out, and
                # grpc.aio would not wait for it.
                context.set_code(_code_of(refused))
                context.set_details(refused.code)

        inner, streams = _inner(handler), _streams(handler)
        if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
            return _guarded(handler, stream if handler.response_streaming else unary)
        return _guarded(handler, plain_stream if handler.response_streaming else plain_unary)


class SessionInterceptor(grpc.ServerInterceptor):
    """An interceptor for `grpc.server`. Methods in `public` ("/package.Service/Method") are also
    served to clients that are not signed in. Their handlers have a visit, too.

    Raises ValueError if `flow.bearer` is False.
    """

    def __init__(
        self,
        authority: SessionAuthority | Callable[[], SessionAuthority],
        *,
        public: Collection[str] = (),
        flow: Flow | None = None,
    ) -> None:
        self._flow = _checked(flow or Flow())
        self._visits = Visits(authority, self._flow)
        self._public = frozenset(public)

    def close(self) -> None:
        """Closes the client if the interceptor made it."""
        self._visits.close()

    def intercept_service(
        self, continuation: Callable[[Any], _Handler], handler_call_details: Any
    ) -> _Handler:
        """Wraps the handler of a method. The wrapper opens a visit for each call and, unless the
        method is public, requires a session.
        """
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        public = handler_call_details.method in self._public

        @contextmanager
        def entered(context: Any) -> Iterator[ThreadStreamEnd]:
            visit = self._visits.open("POST", _headers_of(context, self._flow), _peer_of(context))
            _current.set(visit)
            if not public:
                visit.require()
            end = ThreadStreamEnd(context)
            if streams:
                visit.hang_up_at_end(end.hang_up)
            try:
                yield end
            finally:
                visit.leave()

        def unary(request: Any, context: Any) -> Any:
            try:
                with entered(context):
                    return inner(request, context)
            except Refused as refused:
                return context.abort(_code_of(refused), refused.code)

        def stream(request: Any, context: Any) -> Iterator[Any]:
            try:
                with entered(context) as end:
                    for response in inner(request, context):
                        if end.has_come:
                            raise session_ended()
                        yield response
            except Refused as refused:
                context.abort(_code_of(refused), refused.code)

        inner, streams = _inner(handler), _streams(handler)
        return _guarded(handler, stream if handler.response_streaming else unary)


def _checked(flow: Flow) -> Flow:
    if not flow.bearer:
        raise ValueError("flow: gRPC has no cookies, so bearer tokens must be looked at")
    return flow


def _inner(handler: _Handler) -> Any:
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


def _streams(handler: _Handler) -> bool:
    """Returns True if the method has a stream of requests or of responses."""
    return bool(handler.request_streaming or handler.response_streaming)


def _guarded(handler: _Handler, behavior: Callable[..., Any]) -> _Handler:
    """Makes a handler of the same kind (unary or stream) that runs `behavior`."""
    requests = "stream" if handler.request_streaming else "unary"
    responses = "stream" if handler.response_streaming else "unary"
    make = getattr(grpc, f"{requests}_{responses}_rpc_method_handler")
    return make(behavior, handler.request_deserializer, handler.response_serializer)


def _headers_of(context: Any, flow: Flow) -> dict[str, list[str]]:
    """Returns the metadata of a call as headers. gRPC has no cookies, so the device header is
    always added: with this header, the client counts as an app.
    """
    headers: dict[str, list[str]] = {flow.device_header.lower(): []}
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            headers.setdefault(name, []).append(value)
    headers[flow.device_header.lower()] = headers[flow.device_header.lower()] or [""]
    return headers


def _peer_of(context: Any) -> str:
    """Returns the IP address of the peer. gRPC gives it as "ipv4:127.0.0.1:5000" or as
    "ipv6:%5B::1%5D:5000". The result is empty for any other peer.
    """
    kind, _, rest = context.peer().partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return str(rest.rpartition(":")[0]).replace("%5B", "").replace("%5D", "").strip("[]")


def _code_of(refused: Refused) -> grpc.StatusCode:
    unknown = isinstance(refused, NoAnswer)
    return grpc.StatusCode.UNAVAILABLE if unknown else grpc.StatusCode.UNAUTHENTICATED
