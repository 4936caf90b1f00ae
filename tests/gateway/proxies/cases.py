"""One table for all proxies: which request gets which answer. If a proxy gives another answer, the
row names this exception. The test of the row then fails if the proxy gives the usual answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.gateway.proxies.raw_http import Headers
from tests.gateway.proxies.visitors import (
    PAGE,
    SCRIPT,
    Visitor,
    app,
    browser,
    doubled,
    doubled_authorization,
    expired,
    foreign_device,
    many_cookies,
    nobody,
    planted,
    replayed,
    signed_out,
    superseded,
)

NO_COOKIES, BOTH, WIPED = "none", "both", "wiped"
SIGN_IN = "/sign-in?next="
WEBSOCKET: Headers = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
GRPC_WEB: Headers = [("Content-Type", "application/grpc-web+proto"), ("X-Grpc-Web", "1")]
PREFLIGHT: Headers = [
    ("Origin", "https://partner.example"),
    ("Access-Control-Request-Method", "POST"),
    ("Access-Control-Request-Headers", "authorization"),
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer. If `arrives`, the app receives the request. If `known`, the request has the
    visitor's identity, and otherwise it is anonymous. `headers` has some headers of the answer,
    each with the start of its value.
    """

    status: int
    arrives: bool = False
    known: bool = False
    cookies: str = NO_COOKIES
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A row. `exceptions` are the outcomes of proxies that differ; docs/gateway.md names each of
    them.
    """

    name: str
    visitor: Visitor
    outcome: Outcome
    target: str = "/shelf?page=2"
    more: Headers = ()
    method: str = "GET"
    exceptions: Mapping[str, Outcome] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


GOOD = Outcome(200, arrives=True, known=True, body="hello")
ANONYMOUS = Outcome(200, arrives=True, body="hello")
RENEWED = Outcome(200, arrives=True, known=True, cookies=BOTH, body="hello")
REDIRECT = Outcome(303, headers={"location": SIGN_IN})
JSON_401 = Outcome(401, headers={"content-type": "application/json"}, body="sign_in_required")
WIPED_REDIRECT = Outcome(303, cookies=WIPED, headers={"location": SIGN_IN})
WIPED_401 = Outcome(401, cookies=WIPED)

CASES = [
    # Pages.
    Case("nobody opens a page", nobody, REDIRECT, more=PAGE),
    Case("a user opens a page", browser, GOOD, more=PAGE),
    Case("an expired token is renewed", expired, RENEWED, more=PAGE),
    Case("a superseded token opens no page", superseded, REDIRECT, more=PAGE),
    Case("a replayed token opens no page", replayed, WIPED_REDIRECT, more=PAGE),
    Case("a token on a foreign device opens no page", foreign_device, WIPED_REDIRECT, more=PAGE),
    Case("a user who was signed out opens no page", signed_out, REDIRECT, more=PAGE),
    # Scripts.
    Case("nobody's script is refused", nobody, JSON_401, more=SCRIPT),
    Case("a user's script goes on", browser, GOOD, more=SCRIPT),
    Case("a script renews", expired, RENEWED, more=SCRIPT),
    Case("a superseded script is refused", superseded, JSON_401, more=SCRIPT),
    Case("a replayed script is refused", replayed, WIPED_401, more=SCRIPT),
    Case("a route for scripts never redirects", nobody, JSON_401, target="/api/x", more=PAGE),
    Case("nobody posts", nobody, JSON_401, method="POST", more=SCRIPT),
    Case("a user posts", browser, GOOD, method="POST", more=SCRIPT),
    # Methods.
    Case("nobody's HEAD", nobody, REDIRECT, method="HEAD", more=PAGE),
    Case("a user's HEAD", browser, Outcome(200, True, True), method="HEAD", more=PAGE),
    Case("a renewing HEAD", expired, Outcome(200, True, True, BOTH), method="HEAD", more=PAGE),
    # Apps that keep their token themselves.
    Case("an app goes on", app, GOOD),
    Case(
        "two bearer tokens count as no token",
        doubled_authorization,
        JSON_401,
        exceptions={"nginx": Outcome(400)},
    ),
    # Cookies.
    Case("cookies that came twice are good", doubled, GOOD, more=PAGE),
    Case("cookies of two sessions count as no cookie", planted, REDIRECT, more=PAGE),
    Case("64 KiB of cookies", many_cookies, GOOD, more=PAGE),
    # Kinds of routes.
    Case("nobody on an optional route", nobody, ANONYMOUS, target="/news/today", more=PAGE),
    Case("a user on an optional route", browser, GOOD, target="/news/today", more=PAGE),
    Case("a renewal on an optional route", expired, RENEWED, target="/news/today", more=PAGE),
    Case("nobody on a disabled route", nobody, ANONYMOUS, target="/public/x", more=PAGE),
    Case("a user on a disabled route", browser, ANONYMOUS, target="/public/x", more=PAGE),
    Case("a fresh sign-in on a route that requires it", browser, GOOD, target="/account/password"),
    # The rights of other origins.
    Case(
        "a page of another origin posts",
        browser,
        Outcome(403),
        method="POST",
        more=[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")],
    ),
    # Streams.
    Case("a user's WebSocket", browser, Outcome(101, True, True, body="hello"), more=WEBSOCKET),
    Case("nobody's WebSocket", nobody, Outcome(401), more=WEBSOCKET),
    Case(
        "a WebSocket for a page of another origin",
        browser,
        Outcome(403),
        more=[*WEBSOCKET, ("Origin", "https://evil.example")],
    ),
    Case("a user's gRPC-web call", browser, GOOD, method="POST", more=GRPC_WEB),
    Case(
        "nobody's gRPC-web call",
        nobody,
        Outcome(200, headers={"grpc-status": "16"}),
        method="POST",
        more=GRPC_WEB,
        exceptions={"traefik": Outcome(401, headers={"grpc-status": "16"})},
    ),
]
