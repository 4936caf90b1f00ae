"""Whatever a client sends through a proxy, the gateway neither crashes nor gives an identity."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_authority.gateway.identity import IDENTITY_HEADERS
from session_authority_client import AsyncSessionAuthority
from session_authority_client.testing import FakeAuthority
from tests.gateway.harness import DEVICE, FORMS, TOKEN, Proxy, proxy_before

NAMES = (
    "accept authorization connection content-length content-type cookie expect host origin referer"
    " sec-fetch-dest sec-fetch-mode sec-fetch-site sec-websocket-key te transfer-encoding upgrade"
    " user-agent x-device-id x-forwarded-for x-forwarded-host x-forwarded-method x-forwarded-proto"
    " x-forwarded-uri x-original-method x-original-uri x-original-url access-control-request-method"
    " sec-ch-ua x-session-user x_session_user x-session-set-cookie-1"
).split()
WORDS = (
    "",
    "Bearer x",
    "bearer  a.b.c",
    "Basic eA==",
    f"{TOKEN}=x; {DEVICE}=y",
    f"{TOKEN}=x,{TOKEN}=y",
    "navigate",
    "websocket",
    "cross-site",
    "application/grpc",
    "application/grpc-web+proto",
    "text/html",
    "null",
    "https://app.example",
    "GET",
    "OPTIONS",
    "/",
    "//x",
    "*",
    "http://",
    "http://a/b",
)
VALUES = st.sampled_from(WORDS) | st.text(st.characters(max_codepoint=255), max_size=40)
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=8)
TARGETS = st.text(st.characters(max_codepoint=255), max_size=40).map(lambda text: f"/{text}")
METHODS = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "G\x00T", ""])


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def fuzzed(runner: asyncio.Runner) -> Iterator[Proxy]:
    """One proxy with one gateway for all examples."""

    async def connect() -> AsyncSessionAuthority:
        return fake.async_client()

    with FakeAuthority() as fake:
        client = runner.run(connect())
        yield proxy_before(client)
        runner.run(client.close())


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    form=st.sampled_from(FORMS),
    method=METHODS,
    target=TARGETS,
    headers=HEADERS,
    options=st.sampled_from(["", "session=optional", "max_age=1s", "sign_in=401"]),
)
def test_no_request_without_a_session_gets_an_identity(
    runner: asyncio.Runner,
    fuzzed: Proxy,
    form: str,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    options: str,
):
    asked = fuzzed.ask(form, headers, method=method, target=target, options=options)
    heard = runner.run(asked)
    assert heard.status in (200, 204, 303, 400, 401, 403)
    if heard.status < 300:
        # Preflights pass too. The method OPTIONS, which makes a request a preflight, is the method
        # of the client's request, and not of the proxy's request.
        assert options == "session=optional" or method == "OPTIONS"
    told = [heard.all(name) for name in IDENTITY_HEADERS]
    assert told in ([[""]] * len(told), [[]] * len(told))
    assert not any("\n" in value or "\r" in value for _, value in heard.headers)


@settings(max_examples=150, deadline=None)
@given(options=st.text(st.characters(max_codepoint=255), max_size=40))
def test_unknown_options_deny(runner: asyncio.Runner, fuzzed: Proxy, options: str):
    path = f"/forward-auth:{options}".partition("?")[0]
    told = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/"), ("X-Forwarded-Host", "a")]
    heard = runner.run(fuzzed.send("GET", path, told))
    assert heard.status in (401, 404, 500)
