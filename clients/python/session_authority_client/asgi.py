"""Provides middleware for ASGI apps, such as apps of Starlette and FastAPI. A server calls an ASGI
app with (scope, receive, send).

The middleware opens a visit before it calls the app, and puts the visit in
`scope["state"]["visit"]`. The middleware adds the visit's cookies to the headers of the app's
response. If `Refused` is raised in the app, the middleware sends the response that this exception
contains. If a framework caught `Refused` and answered with a server error, the middleware replaces
the server error by the response of `Refused`.

The middleware needs no framework. `session_authority_client.starlette` has dependencies for
FastAPI.
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
    """Finds out for each request who is signed in.

    `authority` is a client or, better, a function that makes a client. If `authority` is a
    function, the middleware calls it at the first request, and closes the client after the app's
    lifespan.

    When a WebSocket connects, the middleware checks the session, and adds the cookies to the
    response to the handshake. If the app reads the session during a WebSocket or an event stream,
    the middleware ends the connection when the session ends. If the session of a WebSocket ends,
    the middleware closes the WebSocket with code 4401 and the reason "session_ended". With
    `Flow(end_connections=False)`, or after `visit.keep_open()`, the connection stays open when the
    session ends.

    Other middleware that adds headers to every response, for example for CORS, must wrap this
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
        """Handles an ASGI scope. If `scope["type"]` is "http" or "websocket", opens a visit, calls
        the app, and sends the cookies or a refusal. If `scope["type"]` is "lifespan", calls the
        app, and then closes the client, if the middleware made it. If `scope["type"]` has any other
        value, only calls the app.
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
        # The app gets the server's scope, and not a copy with the visit. If the app adds entries to
        # the scope, such as the route, middleware around this middleware must see these entries.
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
    """Sends the response to a request: the app's response, or a refusal in its place. The
    response's headers are held back until the app sends the first part of the body. So a refusal
    from the code that makes the body can still replace the response.

    The headers of a WebSocket's handshake and of an event stream are sent at once. A page that
    opens an event stream waits for the headers of the stream, and the first event may come much
    later.
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
        # The refusal after which the app started a successful response, else None. Usually the app
        # has caught the refusal. But a framework may also send successful headers before it handles
        # a refusal from the code that makes the body. If an empty body follows the headers, the
        # refusal is sent in place of the response. If the body is not empty, the end of the body is
        # held back until the app returns. If the app raises the refusal before it returns, the
        # response must not look complete.
        self._caught: Refused | None = None
        self._end: _Message | None = None
        self._began = False
        self._replaced = False

    async def send(self, message: _Message) -> None:
        """Sends a message of the app, or sends a refusal in place of the message. The app gets this
        method as its `send`.
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
        """Returns True if the app itself chose to send this message after the refusal. Returns
        False if a framework sends the message because of the refusal. `late` is True if the refusal
        was raised after the app sent its previous message.
        """
        kind = message["type"]
        if kind == "websocket.close":
            return self._began and is_chosen_close(message.get("code", _NORMAL_CLOSURE))
        if kind == "websocket.accept":
            return True
        if kind not in _HEADERS_GO_OUT:
            return self._began or not (late or _is_end(message))
        # Some middleware catches an exception, and sends a response in its `except` block, where
        # `sys.exception()` returns the exception.
        error = sys.exception()
        fault = error is not None and find(error, Refused) is None
        return is_chosen(message["status"], refused.answer.status, refused, fault=fault)

    async def refuse(self, refused: Refused) -> bool:
        """Sends the response of a refusal, or closes a WebSocket that is already open. If the
        headers of the app's HTTP response were already sent, does nothing and returns False.
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
        handshake = message["type"] == "websocket.accept"  # no cache stores a handshake's response
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
        """Sends the headers if they were held back, and the end of the body if it was held back."""
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
        # If the app is wrapped in this middleware twice, the scope has the visit of the inner
        # middleware.
        shown = self._scope.get("state", {}).get("visit")
        return self._visit.owns(header[1].decode("latin-1"), shown)


def _is_failure(message: _Message) -> bool:
    """Returns True if a message starts a response with a status other than 2xx."""
    return not 200 <= message.get("status", 200) < 300


def _is_end(message: _Message) -> bool:
    """Returns True if a message ends the body of a response and adds no contents to the body."""
    return (
        message["type"] in ("http.response.body", "websocket.http.response.body")
        and not message.get("body")
        and not message.get("more_body")
    )


def _target_of(scope: _Scope) -> str:
    """Returns the path and the query of a request, as the client sent them. If the server passes no
    `raw_path`, this function quotes the decoded path again.
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
    """Returns True if the server supports ASGI's extension for refused handshakes. With the
    extension, the refusal of a handshake can have any status, headers and a body. Without the
    extension, a server answers each refused handshake of a WebSocket with 403.
    """
    return "websocket.http.response" in (scope.get("extensions") or {})


async def _refuse(
    scope: _Scope, refused: Refused, send: _Send, more: Sequence[_Header] = ()
) -> None:
    """Sends the response of a refusal in place of the app's response. `more` has headers to add to
    the response of the refusal. If the server can't send a whole response to the handshake of a
    WebSocket, closes the WebSocket.
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
    """Returns the body of a request. A body that is longer than `MAX_BODY_BYTES` is cut to
    `MAX_BODY_BYTES` + 1 bytes. The second value of the result is False if the client disconnected
    before the end of the body.
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
