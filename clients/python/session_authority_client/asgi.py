"""Middleware for ASGI apps: Starlette, FastAPI, and any other app that is called with (scope,
receive, send).

The middleware opens a visit before it calls the app, and puts the visit in
`scope["state"]["visit"]`. It adds the cookies when the headers are sent. If the app refuses the
request (`Refused`), the middleware sends the refusal's response. It does so even if a framework
caught the exception and answered with a server error. The middleware needs no framework.
`session_authority_client.starlette` has dependencies for FastAPI.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._shared.asgi_connection import Connection, turn_of_others
from session_authority_client._shared.refusals import (
    find,
    is_chosen,
    is_chosen_close,
    is_only,
)
from session_authority_client.adapter import (
    MAX_BODY_BYTES,
    AsyncVisit,
    AsyncVisits,
    DevicesRequest,
    Response,
    async_answer_devices,
    public_response,
)
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
# These close codes are from RFC 6455, section 7.4.1.
_NORMAL_CLOSURE = 1000
_POLICY_VIOLATION = 1008


def visit_of(scope: _Scope) -> AsyncVisit:
    """Returns the visit of a request."""
    visit = scope.get("state", {}).get("visit")
    if not isinstance(visit, AsyncVisit):
        raise RuntimeError("SessionAuthorityMiddleware is not around this app")
    return visit


class SessionAuthorityMiddleware:
    """Finds out for each request who is signed in. `authority` is a client or, better, a function
    that makes a client. The middleware calls the function at the first request. After the app's
    lifespan, it closes the client that the function made.

    The session of a WebSocket is checked when the WebSocket connects, and cookies are set with the
    handshake. If the app uses the session, WebSockets and event streams end with the session. A
    WebSocket is closed with code 4401, "session_ended". `Flow(end_connections=False)` and
    `visit.keep_open()` prevent this. Middleware that adds headers to every response (CORS) must
    wrap this middleware.
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
        """Handles an ASGI connection: opens its visit, calls the app, and sends cookies or a
        refusal. Scopes of other types go to the app unchanged.
        """
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
        method, target = scope.get("method", "WEBSOCKET"), _target_of(scope)
        mounted = self._flow.devices_at(target) if scope["type"] == "http" else None
        if mounted is not None:
            public = public_response(mounted, method, target, asked)
            if public is not None:
                await _answer(scope, public, send)
                return
        try:
            visit = await self._visits.open(method, asked, peer, target)
        except Refused as refused:
            await _refuse(scope, refused, send, [_VARY])
            return
        # The visit is put in this scope and not in a copy, because middleware that wraps this
        # middleware must see the app's entries, such as the route.
        scope.setdefault("state", {})["visit"] = visit
        accept_ch = self._flow.accept_ch(method, asked, peer, scope.get("scheme", ""))
        connection = Connection(scope, receive, send)
        response = _Response(scope, visit, connection, accept_ch)
        try:
            async with connection:
                if mounted is None:
                    await self._app(scope, connection.receive, response.send)
                else:
                    body, is_whole = await _body_of(connection.receive)
                    request = DevicesRequest(method, target, asked, body, is_whole)
                    await _answer(
                        scope, await async_answer_devices(mounted, visit, request), response.send
                    )
                await response.release()
        except Exception as error:
            found = find(error, Refused)
            answered = found is not None and await response.refuse(found)
            if not (answered and is_only(error, Refused)):
                raise
        finally:
            visit.leave()


class _Response:
    """The response to a request: the app's response, or the refusal that replaces it. The headers
    are held back until the first contents come, because the code that makes the contents may still
    refuse the request.

    The headers of a handshake and of an event stream are sent at once. The page waits for the
    headers of an event stream when it opens the stream, and the first event may come much later.
    """

    def __init__(
        self, scope: _Scope, visit: AsyncVisit, connection: Connection, accept_ch: str
    ) -> None:
        self._scope = scope
        self._visit = visit
        self._accept_ch = accept_ch
        self._connection = connection
        self._send = connection.send
        self._held: _Message | None = None
        # After this refusal, the app started a successful response, as if the app had caught the
        # refusal. If no contents follow the headers, the app did not catch the refusal, and the
        # refusal is sent. The code that makes the contents may have refused the request before the
        # app sent the headers. If contents follow, their end is held back until the app is done,
        # because the app may still raise the refusal.
        self._caught: Refused | None = None
        self._end: _Message | None = None
        self._began = False
        self._replaced = False

    async def send(self, message: _Message) -> None:
        """Sends a message of the app, or sends the refusal in its place. The app gets this method
        as `send`.
        """
        if self._replaced:
            await turn_of_others()
            return
        fresh = self._visit.take_refusal()
        refused = fresh or self._caught
        if refused is not None and not self._stands(message, refused, late=fresh is not None):
            await self.refuse(refused)
            return
        self._caught = None if _is_failure(message) else refused
        if self._caught is not None and _is_end(message):
            self._end = message
        else:
            await self._pass(message)

    def _stands(self, message: _Message, refused: Refused, *, late: bool) -> bool:
        """Returns True if the app itself chose the message that it sends after a refusal. `late` is
        True if the app refused the request after its previous message.
        """
        kind = message["type"]
        if kind == "websocket.close":
            return self._began and is_chosen_close(message.get("code", _NORMAL_CLOSURE))
        if kind == "websocket.accept":
            return True
        if kind not in _HEADERS_GO_OUT:
            return self._began or not (late or _is_end(message))
        # Middleware turns an exception into a response while it handles that exception.
        error = sys.exception()
        fault = error is not None and find(error, Refused) is None
        return is_chosen(message["status"], refused.answer.status, refused, fault=fault)

    async def refuse(self, refused: Refused) -> bool:
        """Sends the response to a refusal, or closes a WebSocket that is already open. Returns
        False if another HTTP response has already begun.
        """
        if not self._replaced:
            if not self._began:
                self._held = None
                await _refuse(self._scope, refused, self._pass)
            elif self._scope["type"] == "websocket":
                await _hang_up(refused, self._send)
            else:
                return False
            self._replaced = True
        return True

    async def _pass(self, message: _Message) -> None:
        if message["type"] not in _HEADERS_GO_OUT:
            await self.release()
            await self._send(message)
            return
        await self._visit.close()
        kept = [header for header in message.get("headers", ()) if not self._is_ours(header)]
        lines = (value for name, value in kept if name.lower() == b"set-cookie")
        cookies = self._visit.added_to(line.decode("latin-1") for line in lines)
        handshake = message["type"] == "websocket.accept"  # no cache keeps a handshake
        headers: list[_Header] = kept if handshake else [*self._for_caches(kept), _VARY]
        headers.extend((b"set-cookie", cookie.encode("latin-1")) for cookie in cookies)
        if self._accept_ch:
            headers.append((b"accept-ch", self._accept_ch.encode("latin-1")))
        self._held = {**message, "headers": headers}
        if handshake or _is_event_stream(headers):
            await self.release()
            self._visit.hang_up_at_end(self._connection.hang_up)

    def _for_caches(self, headers: Sequence[_Header]) -> list[_Header]:
        names = [name.decode("latin-1") for name, _ in headers]
        kinds = [value for name, value in headers if name.lower() == b"content-type"]
        caching = self._visit.caching(names, b"".join(kinds).decode("latin-1"))
        kept = [header for header in headers if caching.keeps(header[0].decode("latin-1"))]
        added = ((name.lower().encode(), value.encode()) for name, value in caching.added)
        return [*kept, *added]

    async def release(self) -> None:
        """Sends the headers that were held back, and the end of the contents if it was held
        back.
        """
        held, self._held = self._held, None
        if held is not None:
            self._began = True
            await self._send(held)
        end, self._end = self._end, None
        if end is not None:
            await self._send(end)

    def _is_ours(self, header: tuple[bytes, bytes]) -> bool:
        if header[0].lower() != b"set-cookie":
            return False
        # If the app has this middleware twice, the scope has the visit of the inner middleware.
        shown = self._scope.get("state", {}).get("visit")
        return self._visit.owns(header[1].decode("latin-1"), shown)


def _is_failure(message: _Message) -> bool:
    """Returns True if a message begins a response whose status is not a success."""
    return not 200 <= message.get("status", 200) < 300


def _is_end(message: _Message) -> bool:
    """Returns True if a message has no contents and says that no more contents follow."""
    return (
        message["type"] in ("http.response.body", "websocket.http.response.body")
        and not message.get("body")
        and not message.get("more_body")
    )


def _target_of(scope: _Scope) -> str:
    """Returns the path of a request with its query, as the client sent it. If the server passes no
    `raw_path`, the decoded path is quoted again.
    """
    path: bytes = scope.get("raw_path") or quote(scope.get("path", "")).encode()
    query: bytes = scope.get("query_string", b"")
    return (path + b"?" + query if query else path).decode("latin-1")


def _is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        n.lower() == b"content-type" and v.lower().startswith(b"text/event-stream")
        for n, v in headers
    )


def _can_answer(scope: _Scope) -> bool:
    """Returns True if a refused handshake can have another status than 403, and headers and a
    body.
    """
    return "websocket.http.response" in (scope.get("extensions") or {})


async def _refuse(
    scope: _Scope, refused: Refused, send: _Send, more: Sequence[_Header] = ()
) -> None:
    """Sends the response to a refusal in place of the app's response. `more` has additional
    headers. If the server can't send a response to a WebSocket's handshake, closes the WebSocket.
    """
    if scope["type"] == "websocket" and not _can_answer(scope):
        await _hang_up(refused, send)
    else:
        await _answer(scope, refused.answer, send, more)


async def _answer(
    scope: _Scope, answer: Response, send: _Send, more: Sequence[_Header] = ()
) -> None:
    kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers
    ]
    headers += more
    body = b"" if scope.get("method") == "HEAD" else answer.body
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


async def _body_of(receive: _Receive) -> tuple[bytes, bool]:
    """Returns the body of a request. A body that is too long is cut one byte after the limit. The
    second value is False if the client disconnected before the end of the body.
    """
    body, more = b"", True
    while more and len(body) <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            return body, False
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body[: MAX_BODY_BYTES + 1], True


async def _hang_up(refused: Refused, send: _Send) -> None:
    await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refused.code})
