"""Requests that pages of other origins send: refused before anybody sees them, over ASGI and WSGI
alike.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from session_authority_client import SessionAuthority
from session_authority_client.asgi import SessionAuthorityMiddleware as AsgiMiddleware
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from session_authority_client.wsgi import SessionAuthorityMiddleware as WsgiMiddleware

TRUSTED = ("https://id.example", "http://[2001:DB8:0::7]:8080", "capacitor://localhost")
FLOW = Flow(trusted_origins=TRUSTED)
COOKIE = ("cookie", "__Host-session=abc; __Host-device=123e4567-e89b-42d3-a456-426614174000")


@dataclass
class Got:
    """What a client got, and what happened before."""

    status: int
    headers: dict[str, str]
    body: bytes
    served: bool


Ask = Callable[..., Any]


async def over_asgi(
    authority: FakeAuthority, flow: Flow, method: str, headers: Iterable[tuple[str, str]]
) -> Got:
    sent: list[Any] = []
    served: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "method": method, "path": "/", "headers": encoded}
    async with authority.async_client() as client:
        await AsgiMiddleware(app, client, flow)(scope, None, send)  # type: ignore[arg-type]
    start, body = sent
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    return Got(start["status"], told, body["body"], bool(served))


async def over_wsgi(
    authority: FakeAuthority, flow: Flow, method: str, headers: Iterable[tuple[str, str]]
) -> Got:
    started: list[Any] = []
    served: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        served.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"done"]

    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": "/"}
    for name, value in headers:  # a server joins those of one name
        key = "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    with authority.client() as client:
        middleware = WsgiMiddleware(app, client, flow)
        body = b"".join(
            middleware(environ, lambda status, headers: started.append((status, headers)))
        )
    ((status, told),) = started
    return Got(
        int(status.partition(" ")[0]),
        {name.lower(): value for name, value in told},
        body,
        bool(served),
    )


@pytest.fixture(params=[over_asgi, over_wsgi], ids=["asgi", "wsgi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    way: Ask = request.param
    return way


def lines(text: str) -> list[tuple[str, str]]:
    """Headers, one a line."""
    return [
        (name, value[1:]) for name, _, value in (line.partition(":") for line in text.split("\n"))
    ]


HOST = "host: app.example"
PASSES = {
    "same origin": f"{HOST}\nsec-fetch-site: same-origin\norigin: https://app.example",
    "the user's own": f"{HOST}\nsec-fetch-site: none",
    "behind a proxy that rewrites the host": (
        "host: backend:8000\nsec-fetch-site: same-origin\norigin: https://app.example"
    ),
    "its own page without a referrer": f"{HOST}\nsec-fetch-site: same-origin\norigin: null",
    "no browser": HOST,
    "no browser, HTTP/1.0": "user-agent: curl",
    "an older browser": f"{HOST}\norigin: https://app.example",
    "plain HTTP": "host: intranet:8080\norigin: http://intranet:8080",
    "plain HTTP, default port": "host: intranet:80\norigin: http://intranet",
    "default port": "host: app.example:443\norigin: https://app.example",
    "default port, named by the browser": f"{HOST}\norigin: https://app.example:443",
    "upper case": "host: APP.example\norigin: HTTPS://app.EXAMPLE",
    "TLS ends in front": f"{HOST}\norigin: http://app.example",
    "IPv6": "host: [::1]:8000\norigin: http://[::1]:8000",
    "IPv6, written otherwise": "host: [0:0::1]\norigin: http://[::1]",
    "trusted": f"{HOST}\nsec-fetch-site: cross-site\norigin: https://id.example",
    "trusted, an older browser": f"{HOST}\norigin: https://id.example",
    "trusted IPv6": f"{HOST}\nsec-fetch-site: cross-site\norigin: http://[2001:db8::7]:8080",
    "trusted, another scheme": f"{HOST}\nsec-fetch-site: cross-site\norigin: capacitor://localhost",
    "an app": (
        f"{HOST}\nsec-fetch-site: cross-site\norigin: https://evil.example\nauthorization:"
        " Bearer abc"
    ),
    "an app that is not signed in": (
        f"{HOST}\nsec-fetch-site: cross-site\norigin: https://evil.example\nx-device-id: "
    ),
}
REFUSED = {
    "another site": f"{HOST}\nsec-fetch-site: cross-site\norigin: https://evil.example",
    "a sibling": f"{HOST}\nsec-fetch-site: same-site\norigin: https://blog.app.example",
    "a page that hides": f"{HOST}\nsec-fetch-site: cross-site\norigin: null",
    "a sandbox": f"{HOST}\norigin: null",
    "says nothing of its origin": f"{HOST}\nsec-fetch-site: cross-site",
    "cross-site with the host's origin": (
        f"{HOST}\nsec-fetch-site: cross-site\norigin: https://app.example"
    ),
    "upper case": f"{HOST}\nsec-fetch-site: SAME-ORIGIN\norigin: https://app.example",
    "a value of tomorrow": f"{HOST}\nsec-fetch-site: same-planet",
    "an empty value": f"{HOST}\nsec-fetch-site: \norigin: https://app.example",
    "two values": f"{HOST}\nsec-fetch-site: same-origin\nsec-fetch-site: cross-site",
    "two values, the other way round": (
        f"{HOST}\nsec-fetch-site: cross-site\nsec-fetch-site: same-origin"
    ),
    "a list": f"{HOST}\nsec-fetch-site: same-origin, cross-site",
    "non-ascii": f"{HOST}\nsec-fetch-site: same-origin\xa0",
    "spaces": f"{HOST}\nsec-fetch-site:  none",
    "an older browser": f"{HOST}\norigin: https://evil.example",
    "an empty origin": f"{HOST}\norigin: ",
    "two origins": f"{HOST}\norigin: https://app.example\norigin: https://evil.example",
    "the same origin twice": f"{HOST}\norigin: https://app.example\norigin: https://app.example",
    "trusted and another": f"{HOST}\norigin: https://id.example\norigin: https://evil.example",
    "a prefix": f"{HOST}\norigin: https://app.example.evil.example",
    "a suffix": f"{HOST}\norigin: https://evilapp.example",
    "a user": f"{HOST}\norigin: https://app.example@evil.example",
    "a user in the host": "host: x@evil.example\norigin: https://x@evil.example",
    "another port": f"{HOST}\norigin: https://app.example:8443",
    "another port, of the same digits": "host: app.example:844\norigin: https://app.example:8443",
    "the other default port": "host: app.example:443\norigin: http://app.example",
    "no port": f"{HOST}\norigin: https://app.example:0",
    "too high a port": "host: app.example:99999\norigin: https://app.example:99999",
    "a garbled port": "host: app.example:\norigin: https://app.example:",
    "digits of other scripts": "host: app.example:\xb2\norigin: https://app.example:\xb2",
    "a path": f"{HOST}\norigin: https://app.example/",
    "a space": f"{HOST}\norigin: https://app.example ",
    "a tab in it": f"{HOST}\norigin: https://app.\texample",
    "non-ascii origin": "host: \xe4pp.example\norigin: https://\xe4pp.example",
    "no scheme": f"{HOST}\norigin: app.example",
    "another scheme at the host": "host: localhost:1\norigin: ionic://localhost:1",
    "no host": "origin: https://app.example",
    "an empty host": "host: \norigin: https://",
    "two hosts": "host: evil.example\nhost: app.example\norigin: https://evil.example",
    "IPv6, another": "host: [::1]\norigin: http://[::2]",
    "IPv6, none": "host: [:::]\norigin: http://[:::]",
    "a host without brackets": "host: ::1\norigin: http://::1",
    "trusted, another port": f"{HOST}\norigin: https://id.example:444",
    "trusted, another scheme": f"{HOST}\norigin: http://id.example",
    "trusted, a suffix": f"{HOST}\norigin: https://xid.example",
    "other authorization": f"{HOST}\nsec-fetch-site: cross-site\nauthorization: Basic abc",
    "no bearer token": f"{HOST}\nsec-fetch-site: cross-site\nauthorization: Bearer",
    "two bearer tokens": (
        f"{HOST}\nsec-fetch-site: cross-site\nauthorization: Bearer a\nauthorization: Bearer b"
    ),
    "long": f"{HOST}\norigin: https://{'a' * 100_000}",
}


@pytest.mark.parametrize("name", PASSES)
async def test_what_may_pass_passes(authority: FakeAuthority, ask: Ask, name: str):
    got = await ask(authority, FLOW, "POST", lines(PASSES[name]))
    assert (got.status, got.served) == (200, True)


@pytest.mark.parametrize("name", REFUSED)
async def test_other_origins_are_refused_before_anybody_sees_it(
    authority: FakeAuthority, ask: Ask, name: str
):
    got = await ask(authority, FLOW, "POST", [*lines(REFUSED[name]), COOKIE])
    assert (got.status, json.loads(got.body), got.served) == (
        403,
        {"error": "cross_origin_request"},
        False,
    )
    assert (got.headers["cache-control"], got.headers["content-type"]) == (
        "no-store",
        "application/json",
    )
    assert "set-cookie" not in got.headers
    assert authority.calls == {}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
async def test_what_changes_nothing_passes(authority: FakeAuthority, ask: Ask, method: str):
    assert (await ask(authority, FLOW, method, lines(REFUSED["another site"]))).served


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "get", "WHATEVER"])
async def test_everything_else_may_change_something(
    authority: FakeAuthority, ask: Ask, method: str
):
    assert (await ask(authority, FLOW, method, lines(REFUSED["another site"]))).status == 403


@pytest.mark.parametrize(
    "upgrade", ["upgrade: websocket", "upgrade: WebSocket", "upgrade: h2c, websocket"]
)
async def test_a_websocket_that_is_a_get_may_too(authority: FakeAuthority, ask: Ask, upgrade: str):
    for headers, served in ((REFUSED["another site"], False), (PASSES["an older browser"], True)):
        assert (await ask(authority, FLOW, "GET", lines(f"{headers}\n{upgrade}"))).served is served


@pytest.mark.parametrize(
    ("extensions", "kind"),
    [({}, "close"), ({"websocket.http.response": {}}, "http.response.start")],
)
async def test_a_websocket_of_another_origin_is_refused(
    authority: FakeAuthority, extensions: Any, kind: str
):
    served, sent = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope)
        await send({"type": "websocket.accept"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def connect(headers: str) -> None:
        encoded = [(name.encode(), value.encode()) for name, value in lines(headers)]
        scope = {"type": "websocket", "path": "/", "headers": encoded, "extensions": extensions}
        await AsgiMiddleware(app, client, FLOW)(scope, None, send)  # type: ignore[arg-type]

    async with authority.async_client() as client:
        await connect(REFUSED["an older browser"])
        assert (sent[0]["type"], served) == (f"websocket.{kind}", [])
        assert sent[0].get("status", 403) == 403
        sent.clear()
        await connect(PASSES["an older browser"])
        assert ([message["type"] for message in sent], len(served)) == (["websocket.accept"], 1)


async def test_an_app_with_a_protection_of_its_own_can_do_without(
    authority: FakeAuthority, ask: Ask
):
    assert (
        await ask(authority, Flow(check_origin=False), "POST", lines(REFUSED["another site"]))
    ).served


async def test_with_something_in_front_that_adds_bearer_tokens_they_prove_nothing(
    authority: FakeAuthority, ask: Ask
):
    added = "\nauthorization: Bearer of-the-gateway\nx-device-id: "
    flow = Flow(bearer=False)
    assert (
        await ask(authority, flow, "POST", lines(REFUSED["another site"] + added))
    ).status == 403
    assert (await ask(authority, flow, "POST", lines(PASSES["same origin"] + added))).served


async def test_people_get_a_page(authority: FakeAuthority, ask: Ask):
    headers = [*lines(REFUSED["another site"]), ("sec-fetch-mode", "navigate")]
    got = await ask(authority, FLOW, "POST", headers)
    assert (got.status, got.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert (got.headers["content-length"], got.headers["cache-control"]) == (
        str(len(got.body)),
        "no-store",
    )
    assert b"<h1>This came from another site</h1>" in got.body
    assert b"script" not in got.body


async def test_the_log_says_what_to_do(
    authority: FakeAuthority, ask: Ask, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "session_authority_client")
    await ask(
        authority,
        FLOW,
        "POST",
        [*lines(REFUSED["another site"]), COOKIE, ("authorization", "Basic secret")],
    )
    (record,) = caplog.records
    assert "https://evil.example" in record.getMessage()
    assert "trusted_origins" in record.getMessage()
    assert "abc" not in record.getMessage()
    assert "secret" not in record.getMessage()
    await ask(authority, FLOW, "POST" * 9000, [*lines(REFUSED["long"]), ("host", "\n" * 9000)])
    assert len(caplog.records[-1].getMessage()) < 1000
    assert "\n" not in caplog.records[-1].getMessage()


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "",
            "null",
            "*",
            "id.example",
            "//id.example",
            "https://",
            "https://id.example/",
            "https://id.example/path",
        ),
        *(
            "https://*.example",
            "https://u@id.example",
            "https://id.example:0",
            "https://id.example:65536",
            "https://ä.de",
        ),
        *(
            "https://id.example ",
            "https://id.example\n",
            "https://id.example:x",
            "https://[::1",
            "https://[1]",
            "data:x",
        ),
        *("https://id.example?x", "https://id.example#x", "https://a,https://b"),
    ],
)
def test_a_trusted_origin_that_never_would_match_is_refused(origin: str):
    with pytest.raises(ValueError, match=r"trusted_origins: must be scheme://host"):
        Flow(trusted_origins=(origin,))


def test_trusted_origins_are_several():
    with pytest.raises(ValueError, match="must be several"):
        Flow(trusted_origins="https://id.example")


async def test_one_written_otherwise_is_the_same(authority: FakeAuthority, ask: Ask):
    flow = Flow(trusted_origins=["HTTPS://ID.example:443"])
    assert (await ask(authority, flow, "POST", lines(PASSES["trusted"]))).served


def test_the_client_is_not_even_made(authority: FakeAuthority):
    made: list[SessionAuthority] = []

    def make() -> SessionAuthority:
        made.append(authority.client())
        return made[-1]

    environ = {"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "null"}
    WsgiMiddleware(lambda environ, start: [], make)(environ, lambda status, headers: None)
    assert made == []
