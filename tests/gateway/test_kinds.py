"""APIs and streams: the answers to preflights, scripts, gRPC, WebSockets and apps."""

from __future__ import annotations

import pytest

from session_authority.gateway.decision import Gateway
from session_authority.gateway.identity import IDENTITY_HEADERS
from session_authority.gateway.requests import Kind
from session_authority.gateway.routes import Route
from session_authority_client import AsyncSessionAuthority
from session_authority_client.testing import FakeAuthority
from tests.gateway.harness import FLOW, FORMS, Proxy, browser_cookies, original
from tests.gateway.test_answers import check, check_anonymous

PREFLIGHT = [("Origin", "https://other.example"), ("Access-Control-Request-Method", "PUT")]
HANDSHAKE = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "eA==")]
# The rest of a handshake where a proxy drops the headers of its connection.
BARE_HANDSHAKES = [
    [("Sec-WebSocket-Key", "eA==")],
    [("Sec-WebSocket-Version", "13")],
    [("Sec-Fetch-Mode", "websocket")],
]
OWN, FOREIGN = ("Origin", "https://app.example"), ("Origin", "https://evil.example")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """A kind of proxy."""
    return str(request.param)


async def test_preflights_pass_without_identity_or_are_denied_without_redirect(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    cookie = ("Cookie", browser_cookies(fake))
    heard = await proxy.ask(form, [*PREFLIGHT, cookie], method="OPTIONS")
    check(heard, form, 200)
    check_anonymous(heard)
    heard = await proxy.ask(form, [*PREFLIGHT, cookie], method="OPTIONS", options="preflight=deny")
    check(heard, form, 403, code="preflight")
    assert heard.all("Location") == []


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("OPTIONS", [("Origin", "https://other.example")]),
        ("OPTIONS", [("Access-Control-Request-Method", "PUT")]),
        ("OPTIONS", [*PREFLIGHT, ("Origin", "https://app.example")]),
        ("GET", PREFLIGHT),
        ("PUT", PREFLIGHT[1:]),
    ],
)
async def test_nothing_else_passes_as_a_preflight(
    form: str, method: str, headers: list[tuple[str, str]], proxy: Proxy
):
    check(await proxy.ask(form, headers, method=method), form, 401)


@pytest.mark.parametrize(
    "contents", ["application/grpc", "application/grpc+proto", "application/grpc-web-text"]
)
async def test_grpc_calls_are_denied_with_a_grpc_status(
    contents: str, authority: AsyncSessionAuthority, fake: FakeAuthority
):
    gateway = Gateway(authority, FLOW)
    call = original({"content-type": [contents], "sec-fetch-mode": ["navigate"]}, method="POST")
    denied = await gateway.decide(call, Route())
    assert not denied.allowed
    assert (denied.status, denied.denial_status, denied.body) == (200, 401, b"")
    headers = dict(denied.headers)
    assert headers["Content-Type"] == contents
    assert (headers["grpc-status"], headers["grpc-message"]) == ("16", "sign_in_required")
    assert "Location" not in headers

    cookie = browser_cookies(fake)
    call = original({"content-type": [contents], "cookie": [cookie]}, method="POST")
    assert (await gateway.decide(call, Route())).allowed
    with fake.unavailable():
        away = await gateway.decide(call, Route())
    assert (away.outage, away.retry_after, away.denial_status) == (True, 1, 503)
    assert dict(away.headers)["grpc-status"] == "14"


async def test_a_grpc_call_that_is_denied_over_http_never_looks_allowed(form: str, proxy: Proxy):
    heard = await proxy.ask(form, [("Content-Type", "application/grpc")], method="POST")
    check(heard, form, 401)
    assert heard["grpc-status"] == "16"
    assert heard.body == b""


@pytest.mark.parametrize("signs", [HANDSHAKE, *BARE_HANDSHAKES])
async def test_websocket_handshakes_work_with_cookies_from_the_own_origin(
    form: str, signs: list[tuple[str, str]], proxy: Proxy, fake: FakeAuthority
):
    cookie = ("Cookie", browser_cookies(fake))
    heard = await proxy.ask(form, [*signs, cookie, OWN])
    check(heard, form, 200)
    assert heard["X-Session-User"] == "ada"
    check(await proxy.ask(form, [*signs, cookie, FOREIGN]), form, 403, code="cross_origin_request")
    check(await proxy.ask(form, [*signs, OWN]), form, 401)


async def test_apps_send_a_bearer_token_and_their_device_id(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    app = fake.sign_in("ada")
    heard = await proxy.ask(form, list(app.items()))
    check(heard, form, 200)
    assert heard["X-Session-User"] == "ada"
    assert heard.all("Authorization") == heard.all("X-Device-Id") == []
    fake.expire_tokens()
    check(await proxy.ask(form, list(app.items())), form, 401, code="token_expired")


async def test_a_token_of_another_scheme_is_passed_on(form: str, proxy: Proxy):
    basic = ("Authorization", "Basic YTpi")
    heard = await proxy.ask(form, [basic], options="session=optional")
    assert heard["Authorization"] == "Basic YTpi"


def test_a_request_has_one_kind():
    grpc, web = ["application/grpc"], ["application/grpc-web+proto"]
    kinds = {
        Kind.HTTP: original(),
        Kind.GRPC: original({"content-type": grpc}),
        Kind.GRPC_WEB: original({"content-type": web}),
        Kind.WEBSOCKET: original({"upgrade": ["WebSocket"]}),
        Kind.PREFLIGHT: original(
            {"origin": ["null"], "access-control-request-method": ["PUT"]}, method="OPTIONS"
        ),
    }
    assert set(kinds) == set(Kind)
    assert {kind: request.kind for kind, request in kinds.items()} == {kind: kind for kind in Kind}


async def test_every_answer_has_all_identity_headers(authority: AsyncSessionAuthority):
    gateway = Gateway(authority, FLOW)
    for request in (original(), original({"content-type": ["application/grpc"]})):
        answer = await gateway.decide(request, Route())
        assert dict(answer.upstream) == dict.fromkeys(IDENTITY_HEADERS, "")
