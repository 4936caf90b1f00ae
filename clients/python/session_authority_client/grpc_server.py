"""Provides interceptors for gRPC servers, with asyncio or with threads. An interceptor finds out
for each call who is signed in.

A client of the gRPC server sends `authorization: Bearer ...` and `x-device-id` as metadata. A
client that is not signed in gets the status UNAUTHENTICATED. If the client should renew its token,
the text of the status is `token_expired`. If the client must sign in, the text of the status is
`sign_in_required`. If the Session Authority gives no answer or refuses the call, the client gets
UNAVAILABLE.

Handlers get the visit of a call from `current_visit` or `current_async_visit`. A handler can
require a recent or strong sign-in with `visit.require(max_age=...)`. If the sign-in is too old or
too weak, the client gets UNAUTHENTICATED with the text `insufficient_user_authentication`.

The interceptor checks the session of a stream when the stream begins. When the session ends, the
stream ends with UNAUTHENTICATED and the text `session_ended`. If the method of a stream needs no
sign-in, the stream ends with the session only if the handler has read the session.
`AsyncSessionInterceptor` names streams that never end with the session. With
`Flow(end_connections=False)`, no stream ends with its session.
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
    """Returns the visit of the current call in a gRPC server with asyncio. Works in the task of a
    coroutine handler, and in the thread of a handler that is a plain function.
    """
    visit = _current.get(None)
    if not isinstance(visit, AsyncVisit):
        raise RuntimeError("AsyncSessionInterceptor is not in front of this handler")
    return visit


class AsyncSessionInterceptor(grpc.aio.ServerInterceptor):
    """An interceptor for `grpc.aio.server`, which finds out for each call who is signed in.
    `public` has the full names of the methods that need no sign-in ("/package.Service/Method"). The
    handlers of public methods have a visit, too.

    A handler that is a plain function or generator runs in a thread of the server, as it would
    without the interceptor. A handler in a thread may use the visit's `session` and `require()`,
    but must run the visit's coroutines on the server's event loop. If a public method has a handler
    that is a plain function or generator, the streams of this method do not end with the session.

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
        """If `authority` is a function, closes the client that it made. If `authority` is a client,
        does nothing.
        """
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
                        await end.within(responses)  # the handler uses `context.write`
                    else:
                        async for response in end.each(responses):
                            yield response
            except Refused as refused:
                await context.abort(_code_of(refused), refused.code)

        loop, home = asyncio.get_running_loop(), get_ident()

        async def admit_plain(context: Any) -> tuple[AsyncVisit, PlainStreamEnd]:
            visit, end = await admit(context), PlainStreamEnd(context, loop)
            # The handler of a public method may read the session later, in its own thread. But only
            # code in the event loop can start to listen for the end of the session. So a stream of
            # a public method does not end with the session.
            if streams and not public:
                visit.hang_up_at_end(end.hang_up)
            return visit, end

        @contextmanager
        def admitted(context: Any) -> Iterator[tuple[Context, PlainStreamEnd]]:
            """Yields the context variables with which a handler that is a plain function runs, and
            the object that ends the handler's stream. Each call has its own copy of the context
            variables. A thread serves many calls, and must not keep the visit of an earlier call.
            """
            # Another interceptor may call this function on the event loop, as if the function were
            # a coroutine. On the event loop, `admission.result()` would block for ever.
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
                # `abort` is not called here. grpc.aio may still be sending the previous response,
                # and `abort` would not wait until this response is sent.
                context.set_code(_code_of(refused))
                context.set_details(refused.code)

        inner, streams = _inner(handler), _streams(handler)
        if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
            return _guarded(handler, stream if handler.response_streaming else unary)
        return _guarded(handler, plain_stream if handler.response_streaming else plain_unary)


class SessionInterceptor(grpc.ServerInterceptor):
    """An interceptor for `grpc.server`, which finds out for each call who is signed in. `public`
    has the full names of the methods that need no sign-in ("/package.Service/Method"). The handlers
    of public methods have a visit, too.

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
        """If `authority` is a function, closes the client that it made. If `authority` is a client,
        does nothing.
        """
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
    """Makes a handler that runs `behavior`, with the same kinds of requests and responses (unary or
    stream) as `handler`.
    """
    requests = "stream" if handler.request_streaming else "unary"
    responses = "stream" if handler.response_streaming else "unary"
    make = getattr(grpc, f"{requests}_{responses}_rpc_method_handler")
    return make(behavior, handler.request_deserializer, handler.response_serializer)


def _headers_of(context: Any, flow: Flow) -> dict[str, list[str]]:
    """Returns the metadata of a call as headers. Adds an empty device header if the call has none.
    gRPC has no cookies, and a client with a device header counts as a mobile app and not as a
    browser.
    """
    headers: dict[str, list[str]] = {flow.device_header.lower(): []}
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            headers.setdefault(name, []).append(value)
    headers[flow.device_header.lower()] = headers[flow.device_header.lower()] or [""]
    return headers


def _peer_of(context: Any) -> str:
    """Returns the IP address of the client. gRPC names the client as "ipv4:127.0.0.1:5000" or
    "ipv6:%5B::1%5D:5000". The result is empty if the client has no IP address, for example at a
    unix socket.
    """
    kind, _, rest = context.peer().partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return str(rest.rpartition(":")[0]).replace("%5B", "").replace("%5D", "").strip("[]")


def _code_of(refused: Refused) -> grpc.StatusCode:
    unknown = isinstance(refused, NoAnswer)
    return grpc.StatusCode.UNAVAILABLE if unknown else grpc.StatusCode.UNAUTHENTICATED
