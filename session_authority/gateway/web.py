"""Serves the gateway's HTTP port: the authorization requests of proxies, the page of devices,
health, the public keys of assertions, and OAuth introspection and revocation.

This module never reads the body of an authorization request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import quote

from session_authority.gateway.forward_auth import ForwardAuth, Reply
from session_authority.gateway.originals import AuthorizationRequest
from session_authority_client import AsyncSessionAuthority
from session_authority_client.asgi import SessionAuthorityMiddleware
from session_authority_client.flow import Flow

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OF_THE_MESSAGE = frozenset({"content-length", "connection", "transfer-encoding"})


class Health:
    """The health of the gateway. The gateway is ready from the first answer of the service until
    the process begins to stop.
    """

    def __init__(self) -> None:
        self.ready = False

    def reply(self, path: str) -> Reply | None:
        """Returns the response to a health probe, or None if `path` is not the path of a health
        probe.

        The gateway stays ready during an outage of the service, and answers authorization requests
        with 503. For a proxy, the status 503 says more than a gateway that does not answer.
        """
        if path == "/healthz":
            return _text(200, "ok\n")
        if path == "/readyz":
            return _text(200, "ready\n") if self.ready else _text(503, "not ready\n")
        return None


class GatewayApp:
    """The ASGI app of the gateway. `apps` are additional ASGI apps, each with the path that it
    answers.
    """

    def __init__(
        self,
        forward_auth: ForwardAuth,
        authority: AsyncSessionAuthority,
        flow: Flow,
        health: Health,
        apps: Iterable[tuple[str, App]] = (),
    ) -> None:
        self._forward_auth = forward_auth
        self._health = health
        self._flow = flow
        self._devices = SessionAuthorityMiddleware(_nothing, authority, flow)
        self._apps = dict(apps)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one ASGI connection. A connection that is not HTTP gets no answer."""
        if scope["type"] != "http":
            return
        call = _call_of(scope)
        path = call.target.partition("?")[0]
        if app := self._apps.get(path):
            await app(scope, receive, send)
            return
        reply = self._health.reply(path) or await self._forward_auth.reply(call)
        if reply is None and self._flow.devices_at(call.target) is not None:
            await self._devices(scope, receive, send)
        else:
            await send_reply(scope, reply or _text(404, "there is nothing here\n"), send)


def _call_of(scope: Scope) -> AuthorizationRequest:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    query: bytes = scope.get("query_string", b"")
    target = (path + b"?" + query if query else path).decode("latin-1")
    peer = (scope.get("client") or ("",))[0]
    return AuthorizationRequest(scope["method"], scope.get("scheme", "http"), target, headers, peer)


def _text(status: int, text: str) -> Reply:
    headers = (("Content-Type", "text/plain"), ("Cache-Control", "no-store"))
    return Reply(status, headers, text.encode())


async def send_reply(scope: Scope, reply: Reply, send: Send) -> None:
    """Sends a complete response."""
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in reply.headers
        if name.lower() not in _OF_THE_MESSAGE
    ]
    if reply.status != 204:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    silent = scope["method"] == "HEAD" or reply.status == 204
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if silent else reply.body})


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with 404. The middleware of the page of devices calls this app for other pages, but
    the gateway has no other page.
    """
    await send_reply(scope, _text(404, "there is nothing here\n"), send)
