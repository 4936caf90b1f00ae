"""Middleware for apps that speak ASGI: Starlette, FastAPI, and whatever else takes (scope, receive,
send).

It opens a visit before the app, leaves it at `scope["state"]["visit"]`, and writes the cookies as
the headers go out. It answers for the app what the app refuses (`Refused`). It needs no framework;
`session_authority_client.starlette` has dependencies for FastAPI.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._async.visit import AsyncVisit, AsyncVisits
from session_authority_client.flow import VARIES, Flow, Refused

__all__ = ["SessionAuthorityMiddleware", "visit_of"]

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Header = tuple[bytes, bytes]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

_HEADERS_GO_OUT = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_VARY = (b"vary", ", ".join(VARIES).encode())
_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1


def visit_of(scope: _Scope) -> AsyncVisit:
    """The visit of a request."""
    visit = scope.get("state", {}).get("visit")
    if not isinstance(visit, AsyncVisit):
        raise RuntimeError("SessionAuthorityMiddleware is not around this app")
    return visit


class SessionAuthorityMiddleware:
    """Knows who is signed in, request by request. `authority` is a client, or better a function
    that makes one.

    A WebSocket is judged as it connects, and its cookies go with the handshake: a session that ends
    later does not end it. Middleware that adds headers to every response (CORS) must wrap this
    middleware.
    """

    def __init__(
        self,
        app: _App,
        authority: AsyncSessionAuthority | Callable[[], AsyncSessionAuthority],
        flow: Flow | None = None,
    ) -> None:
        self._app = app
        self._flow = flow or Flow()
        self._visits = AsyncVisits(authority, self._flow)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """A connection."""
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                await self._visits.close()
        elif scope["type"] in ("http", "websocket"):
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        asked: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            asked.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        peer = (scope.get("client") or ("",))[0]
        try:
            method = scope.get("method", "WEBSOCKET")
            visit = await self._visits.open(method, asked, peer, _target_of(scope))
        except Refused as refused:
            await _refuse(scope, refused, send)
            return
        # In the scope itself: what the app notes there, such as the route, is for the middleware
        # around this one, too.
        scope.setdefault("state", {})["visit"] = visit
        accept_ch = self._flow.accept_ch(method, asked, peer, scope.get("scheme", ""))
        response = _Response(visit, send, accept_ch)
        try:
            await self._app(scope, receive, response.send)
            await response.release()
        except Refused as refused:
            if not response.began:
                await _refuse(scope, refused, response.send)
            elif scope["type"] == "websocket":
                await _hang_up(refused, send)
            else:
                raise


class _Response:
    """A response on its way out. Its headers wait for its contents: the code that makes these may
    refuse the request.

    The headers of an event stream don't wait: a page that opens a stream waits for them, and the
    first event may be far away.
    """

    def __init__(self, visit: AsyncVisit, send: _Send, accept_ch: str) -> None:
        self._visit = visit
        self._accept_ch = accept_ch
        self._send = send
        self._held: _Message | None = None
        self.began = False

    async def send(self, message: _Message) -> None:
        if message["type"] not in _HEADERS_GO_OUT:
            await self.release()
            await self._send(message)
            return
        cookies = await self._visit.close()
        kept = [header for header in message.get("headers", ()) if not self._is_ours(header)]
        handshake = message["type"] == "websocket.accept"  # which no cache keeps
        headers: list[_Header] = kept if handshake else [*self._for_caches(kept), _VARY]
        headers.extend((b"set-cookie", cookie.encode("latin-1")) for cookie in cookies)
        if self._accept_ch:
            headers.append((b"accept-ch", self._accept_ch.encode("latin-1")))
        self._held = {**message, "headers": headers}
        if handshake or _is_event_stream(headers):
            await self.release()

    def _for_caches(self, headers: Sequence[_Header]) -> list[_Header]:
        names = [name.decode("latin-1") for name, _ in headers]
        kinds = [value for name, value in headers if name.lower() == b"content-type"]
        caching = self._visit.caching(names, b"".join(kinds).decode("latin-1"))
        kept = [header for header in headers if caching.keeps(header[0].decode("latin-1"))]
        added = ((name.lower().encode(), value.encode()) for name, value in caching.added)
        return [*kept, *added]

    def _is_ours(self, header: tuple[bytes, bytes]) -> bool:
        return header[0].lower() == b"set-cookie" and self._visit.owns(header[1].decode("latin-1"))

    async def release(self) -> None:
        """Sends the headers that wait."""
        held, self._held = self._held, None
        if held is not None:
            self.began = True
            await self._send(held)


def _target_of(scope: _Scope) -> str:
    """The path of a request with its query, as the client sent it."""
    path: bytes = scope.get("raw_path") or quote(scope.get("path", "")).encode()
    query: bytes = scope.get("query_string", b"")
    return (path + b"?" + query if query else path).decode("latin-1")


def _is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        n.lower() == b"content-type" and v.lower().startswith(b"text/event-stream")
        for n, v in headers
    )


def _can_answer(scope: _Scope) -> bool:
    """Whether a handshake can be refused with more than 403."""
    return "websocket.http.response" in (scope.get("extensions") or {})


async def _refuse(scope: _Scope, refused: Refused, send: _Send) -> None:
    """Answers instead of the app."""
    if scope["type"] == "websocket" and not _can_answer(scope):
        await _hang_up(refused, send)
        return
    answer = refused.answer
    kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers
    ]
    body = b"" if scope.get("method") == "HEAD" else answer.body
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


async def _hang_up(refused: Refused, send: _Send) -> None:
    await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refused.code})
