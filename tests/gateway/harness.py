"""The harness for the gateway: its HTTP app with the fake of the service, called as proxies call
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from session_authority.gateway.decision import Assertions, Gateway
from session_authority.gateway.forward_auth import ForwardAuth
from session_authority.gateway.requests import GatewayRequest
from session_authority.gateway.routes import Routes
from session_authority.gateway.web import GatewayApp, Health
from session_authority_client import AsyncSessionAuthority
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority

PROXY = "10.0.0.2"
TOKEN, DEVICE = "__Host-session", "__Host-device"
FLOW = Flow(sign_in_url="/sign-in", trusted_proxies=[PROXY])
ROUTES = Routes({"shop": "https://shop.example"})
Headers = Iterable[tuple[str, str]]

# The path at which each kind of proxy calls the gateway.
FORMS = ("/forward-auth", "/auth-request", "/ext-authz")


@dataclass(frozen=True)
class Heard:
    """The answer that a proxy gets."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given == name.lower()]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that the answer sets, by name, each with its value."""
        pairs = [line.partition(";")[0].partition("=") for line in self.all("set-cookie")]
        return {name: value for name, _, value in pairs}


class Proxy:
    """Calls a gateway as each kind of proxy does."""

    def __init__(self, app: GatewayApp, peer: str = PROXY) -> None:
        self.app = app
        self.peer = peer

    async def send(
        self, method: str, target: str, headers: Headers = (), *, body: bytes = b""
    ) -> Heard:
        """Sends a request to the gateway's HTTP port."""
        path, mark, query = target.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1") if mark else b"",
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
            ],
            "client": (self.peer, 4711) if self.peer else None,
            "server": ("gateway", 80),
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, *contents = sent
        told = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]
        ]
        return Heard(start["status"], told, b"".join(part.get("body", b"") for part in contents))

    async def ask(
        self,
        form: str,
        headers: Headers = (),
        *,
        method: str = "GET",
        host: str = "app.example",
        target: str = "/page?x=1",
        options: str = "",
    ) -> Heard:
        """Checks an original request as proxies of one kind do."""
        mount = f"{form}:{options}" if options else form
        if form == "/ext-authz":
            return await self.send(method, mount + target, [("Host", host), *headers])
        told = [
            ("X-Forwarded-Method", method),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", host),
            ("X-Forwarded-Uri", target),
            ("Host", "gateway"),
        ]
        return await self.send("GET", mount, [*told, *headers])


def proxy_before(
    authority: AsyncSessionAuthority,
    flow: Flow = FLOW,
    *,
    assertions: Assertions | None = None,
) -> Proxy:
    """A proxy with a gateway that has this client."""
    gateway = Gateway(authority, flow, routes=ROUTES, assertions=assertions)
    return Proxy(GatewayApp(ForwardAuth(gateway), authority, flow, Health()))


def browser_cookies(fake: FakeAuthority, user: str = "ada", **more: Any) -> str:
    """The `Cookie` header of a browser in which a user has just signed in."""
    app = fake.sign_in(user, **more)
    return cookie_header(app["Authorization"].removeprefix("Bearer "), app["X-Device-Id"])


def cookie_header(token: str, device: str) -> str:
    return f"{TOKEN}={token}; {DEVICE}={device}"


def token_of(cookie: str) -> str:
    found = re.search(rf"{TOKEN}=([^;]+)", cookie)
    assert found
    return found[1]


def original(headers: Mapping[str, list[str]] | None = None, **more: Any) -> GatewayRequest:
    """A browser's request, as a proxy describes it."""
    given = {"method": "GET", "scheme": "https", "host": "app.example", "target": "/", **more}
    return GatewayRequest(headers=headers or {}, peer=PROXY, **given)


BRIEFLY = timedelta(milliseconds=200)
PATIENCE = timedelta(seconds=20)
