"""Interceptors for apps that are gRPC servers themselves, of asyncio or of threads.

Their clients send `authorization: Bearer ...` and `x-device-id` as metadata. Whoever is not signed
in gets UNAUTHENTICATED, with `token_expired` for a text where the client is to renew, else
`sign_in_required`; UNAVAILABLE if that is unknown. Handlers find the visit with `current_visit`; if
`current_visit().require(max_age=...)` finds the sign-in too old or too weak, the text is
`insufficient_user_authentication`. A stream is judged as it begins.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextvars import Context, ContextVar, copy_context
from threading import get_ident
from typing import Any

import grpc

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._async.visit import AsyncVisit
from session_authority_client._async.visits import AsyncVisits
from session_authority_client._sync.client import SessionAuthority
from session_authority_client._sync.visit import Visit
from session_authority_client._sync.visits import Visits
from session_authority_client.flow import Flow, NoAnswer, Refused

__all__ = ["AsyncSessionInterceptor", "SessionInterceptor", "current_async_visit", "current_visit"]

_Handler = Any  # grpc.RpcMethodHandler has no usable type
_END = object()
_current: ContextVar[AsyncVisit | Visit] = ContextVar("session_authority_client.visit")


def current_visit() -> Visit:
    """The visit of the call that is being handled, in a server of threads."""
    visit = _current.get(None)
    if not isinstance(visit, Visit):
        raise RuntimeError("SessionInterceptor is not in front of this handler")
    return visit


def current_async_visit() -> AsyncVisit:
    """The visit of the call that is being handled, in a server of asyncio."""
    visit = _current.get(None)
    if not isinstance(visit, AsyncVisit):
        raise RuntimeError("AsyncSessionInterceptor is not in front of this handler")
    return visit


class AsyncSessionInterceptor(grpc.aio.ServerInterceptor):
    """For `grpc.aio.server`. `public` methods ("/package.Service/Method") are served to everybody,
    with a visit.

    Handlers that are plain functions or generators run in the server's threads, as they would
    without it. They may look at the visit's `session`, and `require()` it; what is to be awaited,
    they must have the server's event loop do.
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
        """Hangs up, if it made the client itself."""
        await self._visits.close()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[_Handler]], handler_call_details: Any
    ) -> _Handler:
        """The method's handler, behind the question who calls."""
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

        async def enter(context: Any) -> None:
            _current.set(await admit(context))

        async def unary(request: Any, context: Any) -> Any:
            try:
                await enter(context)
                return await inner(request, context)
            except Refused as refused:
                return await context.abort(_code_of(refused), refused.code)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                await enter(context)
                responses = inner(request, context)
                if inspect.isawaitable(responses):
                    await responses  # it writes them itself
                else:
                    async for response in responses:
                        yield response
            except Refused as refused:
                await context.abort(_code_of(refused), refused.code)

        loop, home = asyncio.get_running_loop(), get_ident()

        def admitted(context: Any) -> Context:
            """Where a plain function runs. Threads serve one call after the other: its visit must
            not stay behind in one.
            """
            # Another interceptor took the function for a coroutine. It would wait for itself here.
            if get_ident() == home:
                raise RuntimeError("plain functions must not be called on the event loop")
            handling = copy_context()
            admission = asyncio.run_coroutine_threadsafe(admit(context), loop)
            handling.run(_current.set, admission.result())
            return handling

        def plain_unary(request: Any, context: Any) -> Any:
            try:
                return admitted(context).run(inner, request, context)
            except Refused as refused:
                return context.abort(_code_of(refused), refused.code)

        def plain_stream(request: Any, context: Any) -> Iterator[Any]:
            try:
                handling = admitted(context)
                responses = iter(handling.run(inner, request, context))
                while (response := handling.run(next, responses, _END)) is not _END:
                    yield response
            except Refused as refused:
                # No abort: the response before may still be on its way out, which grpc.aio does not
                # wait for then.
                context.set_code(_code_of(refused))
                context.set_details(refused.code)

        inner = _inner(handler)
        if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
            return _guarded(handler, stream if handler.response_streaming else unary)
        return _guarded(handler, plain_stream if handler.response_streaming else plain_unary)


class SessionInterceptor(grpc.ServerInterceptor):
    """For `grpc.server`. `public` methods ("/package.Service/Method") are served to everybody, with
    a visit.
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
        """Hangs up, if it made the client itself."""
        self._visits.close()

    def intercept_service(
        self, continuation: Callable[[Any], _Handler], handler_call_details: Any
    ) -> _Handler:
        """The method's handler, behind the question who calls."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        public = handler_call_details.method in self._public

        def enter(context: Any) -> None:
            visit = self._visits.open("POST", _headers_of(context, self._flow), _peer_of(context))
            _current.set(visit)
            if not public:
                visit.require()

        def unary(request: Any, context: Any) -> Any:
            try:
                enter(context)
                return inner(request, context)
            except Refused as refused:
                return context.abort(_code_of(refused), refused.code)

        def stream(request: Any, context: Any) -> Iterator[Any]:
            try:
                enter(context)
                yield from inner(request, context)
            except Refused as refused:
                context.abort(_code_of(refused), refused.code)

        inner = _inner(handler)
        return _guarded(handler, stream if handler.response_streaming else unary)


def _checked(flow: Flow) -> Flow:
    if not flow.bearer:
        raise ValueError("flow: gRPC has no cookies, so bearer tokens must be looked at")
    return flow


def _inner(handler: _Handler) -> Any:
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


def _guarded(handler: _Handler, behavior: Callable[..., Any]) -> _Handler:
    """The same kind of handler, with another behavior."""
    requests = "stream" if handler.request_streaming else "unary"
    responses = "stream" if handler.response_streaming else "unary"
    make = getattr(grpc, f"{requests}_{responses}_rpc_method_handler")
    return make(behavior, handler.request_deserializer, handler.response_serializer)


def _headers_of(context: Any, flow: Flow) -> dict[str, list[str]]:
    """A call's metadata, as that of an app whatever it brings: there are no cookies in gRPC."""
    headers: dict[str, list[str]] = {flow.device_header.lower(): []}
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            headers.setdefault(name, []).append(value)
    headers[flow.device_header.lower()] = headers[flow.device_header.lower()] or [""]
    return headers


def _peer_of(context: Any) -> str:
    """The address at the other end: of "ipv4:127.0.0.1:5000" and "ipv6:%5B::1%5D:5000"."""
    kind, _, rest = context.peer().partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return str(rest.rpartition(":")[0]).replace("%5B", "").replace("%5D", "").strip("[]")


def _code_of(refused: Refused) -> grpc.StatusCode:
    unknown = isinstance(refused, NoAnswer)
    return grpc.StatusCode.UNAVAILABLE if unknown else grpc.StatusCode.UNAUTHENTICATED
