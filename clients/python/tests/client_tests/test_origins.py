"""Requests from pages of other origins are refused before the app or the service sees them, over
ASGI and WSGI.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from client_tests.vectors import Case, each, flow_of
from session_authority_client import SessionAuthority
from session_authority_client._shared.origins import normal
from session_authority_client.asgi import SessionAuthorityMiddleware as AsgiMiddleware
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from session_authority_client.wsgi import SessionAuthorityMiddleware as WsgiMiddleware

TRUSTED = ("https://id.example", "http://[2001:DB8:0::7]:8080", "capacitor://localhost")
FLOW = Flow(trusted_origins=TRUSTED)
COOKIE = ("cookie", "__Host-session=abc; __Host-device=123e4567-e89b-42d3-a456-426614174000")


@dataclass
class Got:
    """The response that a client got. `served` is True if the app saw the request."""

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
    for name, value in headers:  # a server joins headers of one name
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


HOST = ("host", "app.example")
FOREIGN = [HOST, ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")]
OLD_BROWSER = [HOST, ("origin", "https://app.example")]
LONG = ("origin", f"https://{'a' * 100_000}")


@each("origins", "request")
async def test_requests_of_other_origins_are_refused_before_app_and_service_see_them(
    authority: FakeAuthority, ask: Ask, case: Case
):
    request = case.given["request"]
    refused = case.expected["refused"]
    headers = [*request["headers"], *([COOKIE] if refused else [])]
    got = await ask(authority, flow_of(case.settings), request["method"], headers)
    if not refused:
        assert (got.status, got.served) == (200, True)
        return
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


@each("origins", "normalize")
def test_origins_are_written_as_browsers_write_them(case: Case):
    assert normal(case.given["origin"]) == case.expected["origin"]


@each("origins", "configure")
def test_trusted_origins_that_would_never_match_are_refused(case: Case):
    if case.expected["error"] is None:
        flow_of(case.settings)
    else:
        with pytest.raises(ValueError, match=r"trusted_origins: must be scheme://host"):
            flow_of(case.settings)


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

    async def connect(headers: list[tuple[str, str]]) -> None:
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        scope = {"type": "websocket", "path": "/", "headers": encoded, "extensions": extensions}
        await AsgiMiddleware(app, client, FLOW)(scope, None, send)  # type: ignore[arg-type]

    async with authority.async_client() as client:
        await connect([HOST, ("origin", "https://evil.example")])
        assert (sent[0]["type"], served) == (f"websocket.{kind}", [])
        assert sent[0].get("status", 403) == 403
        sent.clear()
        await connect(OLD_BROWSER)
        assert ([message["type"] for message in sent], len(served)) == (["websocket.accept"], 1)


async def test_a_user_who_navigates_gets_a_page(authority: FakeAuthority, ask: Ask):
    headers = [*FOREIGN, ("sec-fetch-mode", "navigate")]
    got = await ask(authority, FLOW, "POST", headers)
    assert (got.status, got.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert (got.headers["content-length"], got.headers["cache-control"]) == (
        str(len(got.body)),
        "no-store",
    )
    assert b"<h1>This came from another site</h1>" in got.body
    assert b"script" not in got.body


async def test_the_log_names_the_setting_and_no_secret(
    authority: FakeAuthority, ask: Ask, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "session_authority_client")
    await ask(
        authority,
        FLOW,
        "POST",
        [*FOREIGN, COOKIE, ("authorization", "Basic secret")],
    )
    (record,) = caplog.records
    assert "https://evil.example" in record.getMessage()
    assert "trusted_origins" in record.getMessage()
    assert "abc" not in record.getMessage()
    assert "secret" not in record.getMessage()
    await ask(authority, FLOW, "POST" * 9000, [LONG, HOST, ("host", "\n" * 9000)])
    assert len(caplog.records[-1].getMessage()) < 1000
    assert "\n" not in caplog.records[-1].getMessage()


def test_trusted_origins_in_a_single_text_are_refused():
    with pytest.raises(ValueError, match="must be several"):
        Flow(trusted_origins="https://id.example")


def test_a_refused_request_makes_no_client(authority: FakeAuthority):
    made: list[SessionAuthority] = []

    def make() -> SessionAuthority:
        made.append(authority.client())
        return made[-1]

    environ = {"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "null"}
    WsgiMiddleware(lambda environ, start: [], make)(environ, lambda status, headers: None)
    assert made == []
