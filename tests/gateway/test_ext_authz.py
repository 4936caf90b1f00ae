"""The gateway's answers to Envoy over gRPC, and how the gateway reads Envoy's requests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from time import monotonic

import pytest

from session_authority.gateway.decision import Gateway
from session_authority.gateway.ext_authz import replies
from session_authority.gateway.ext_authz.check import Checks
from session_authority.gateway.ext_authz.check_requests import request_of
from session_authority.gateway.identity import IDENTITY_HEADERS
from session_authority.internal.v1 import external_authorization_pb2 as pb
from session_authority_client import AsyncSessionAuthority
from session_authority_client.testing import FakeAuthority
from tests.gateway.envoy import CLIENT, Reply, check_request
from tests.gateway.harness import (
    DEVICE,
    FLOW,
    ROUTES,
    TOKEN,
    browser_cookies,
    cookie_header,
)

PAGE = [("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none")]
SCRIPT = [("accept", "application/json")]
FORGED = [(name, "root") for name in IDENTITY_HEADERS]
OVERWRITE = pb.HeaderValueOption.HEADER_APPEND_ACTION_OVERWRITE_IF_EXISTS_OR_ADD


@pytest.fixture
def checks(authority: AsyncSessionAuthority) -> Checks:
    return Checks(Gateway(authority, FLOW, routes=ROUTES))


async def ask(checks: Checks, headers: Iterable[tuple[str, str | bytes]] = (), **more) -> Reply:
    answer = await checks.reply(check_request(headers, **more), 20.0)
    assert answer is not None
    return Reply(answer)


@pytest.mark.parametrize("raw", [False, True])
async def test_a_good_session_passes_with_its_identity(
    raw: bool, fake: FakeAuthority, checks: Checks
):
    cookie = f"theme=dark; {browser_cookies(fake)}"
    heard = await ask(checks, [("cookie", cookie), *FORGED], raw=raw)
    assert heard.allowed
    assert heard.kind == "ok_response"
    assert heard.upstream["X-Session-User"] == "ada"
    assert heard.upstream["Cookie"] == "theme=dark"
    assert set(IDENTITY_HEADERS) <= heard.upstream.keys()
    assert {option.append_action for option in heard.said.ok_response.headers} == {OVERWRITE}
    assert all(option.keep_empty_value for option in heard.said.ok_response.headers)
    assert heard.metadata == {
        "user": "ada",
        "session": heard.upstream["X-Session-Id"],
        "device": heard.upstream["X-Session-Device"],
    }


async def test_an_anonymous_request_has_all_identity_headers_empty(checks: Checks):
    heard = await ask(
        checks, [*FORGED, ("x_session_user", "root")], options={"session": "optional"}
    )
    assert heard.allowed
    assert {name: heard.upstream[name] for name in IDENTITY_HEADERS} == dict.fromkeys(
        IDENTITY_HEADERS, ""
    )
    assert "x_session_user" in heard.removed
    assert "user" not in heard.metadata


async def test_a_renewal_reaches_the_browser_on_the_allowed_answer(
    fake: FakeAuthority, checks: Checks
):
    cookie = browser_cookies(fake)
    fake.expire_tokens()
    heard = await ask(checks, [("cookie", cookie)])
    assert heard.allowed
    names = [line.partition("=")[0] for line in heard.to_client("set-cookie")]
    assert names == [TOKEN, DEVICE]
    assert (await ask(checks, [("cookie", cookie)])).allowed


async def test_a_page_is_redirected_to_the_sign_in_and_a_script_gets_401(checks: Checks):
    page = await ask(checks, PAGE)
    assert (page.allowed, page.kind, page.status) == (False, "denied_response", 303)
    assert page.to_client("location") == ["/sign-in?next=/page%3Fx%3D1"]
    script = await ask(checks, SCRIPT)
    assert (script.status, json.loads(script.body)["error"]) == (401, "sign_in_required")
    assert script.metadata == {"denial": "sign_in_required"}


async def test_a_grpc_call_gets_a_grpc_status(checks: Checks):
    heard = await ask(checks, [("content-type", "application/grpc")], method="POST")
    assert (heard.status, heard.to_client("grpc-status")) == (200, ["16"])


async def test_a_replay_deletes_the_cookies(fake: FakeAuthority, checks: Checks):
    cookie = browser_cookies(fake)
    fake.replay_tokens()
    heard = await ask(checks, [("cookie", cookie), *SCRIPT])
    assert heard.status == 401
    assert all("Max-Age=0" in line for line in heard.to_client("set-cookie"))
    assert len(heard.to_client("set-cookie")) == 2


async def test_an_outage_fails_the_call_or_is_a_response(
    fake: FakeAuthority, authority: AsyncSessionAuthority
):
    cookie = browser_cookies(fake)
    gateway = Gateway(authority, FLOW, routes=ROUTES)
    with fake.unavailable():
        assert await Checks(gateway).reply(check_request([("cookie", cookie)]), 20.0) is None
        told = await Checks(gateway, error_responses=True).reply(
            check_request([("cookie", cookie), *SCRIPT]), 20.0
        )
    assert told is not None
    heard = Reply(told)
    assert (heard.said.status.code, heard.kind, heard.status) == (14, "error_response", 503)
    assert heard.to_client("retry-after") == ["1"]


async def test_the_deadline_is_passed_on_minus_the_time_for_the_answer(
    fake: FakeAuthority, checks: Checks
):
    cookie = browser_cookies(fake)
    with fake.slow(timedelta(seconds=60)):
        # Without the deadline, this would take as long as the client's own time-out.
        assert await checks.reply(check_request([("cookie", cookie)]), 0.1) is None
    seen = []

    async def decide(request, route):
        seen.append(request.deadline)
        raise InterruptedError

    checks._gateway.decide = decide  # type: ignore[method-assign]
    for left in (1000.0, 3600.1, None):
        with pytest.raises(InterruptedError):
            await checks.reply(check_request(), left)
    assert seen[0] < monotonic() + 1000.0 - 0.019
    assert seen[1:] == [None, None]


@pytest.mark.parametrize(("waits", "capped"), [(20.0, True), (0.5, False), (None, True)])
async def test_no_call_is_longer_than_the_timeout_of_the_file(
    waits: float | None, capped: bool, fake: FakeAuthority, monkeypatch: pytest.MonkeyPatch
):
    cookie = browser_cookies(fake)
    own, seen = timedelta(seconds=10), []
    validate = AsyncSessionAuthority.validate_session

    async def asked(self, *args, **more):
        seen.append(more["timeout"])
        return await validate(self, *args, **more)

    monkeypatch.setattr(AsyncSessionAuthority, "validate_session", asked)
    async with fake.async_client(timeout=own) as client:
        await Checks(Gateway(client, FLOW)).reply(check_request([("cookie", cookie)]), waits)
    # None is the client's own time-out.
    assert [None if left is None else left < own for left in seen] == [None if capped else True]


@pytest.mark.parametrize(
    "options",
    [
        {"sesion": "optional"},
        {"session": "maybe"},
        {"app": "nowhere"},
        {"max_age": "soon"},
        {"session": "optional", "max_age": "5m"},
        {"": ""},
    ],
)
async def test_a_route_with_wrong_options_lets_nothing_pass(
    options: dict[str, str], fake: FakeAuthority, checks: Checks
):
    heard = await ask(checks, [("cookie", browser_cookies(fake)), *SCRIPT], options=options)
    assert (heard.allowed, heard.status) == (False, 500)
    assert not heard.upstream


async def test_a_route_may_require_a_fresh_sign_in(fake: FakeAuthority, checks: Checks):
    cookie = browser_cookies(fake, age=timedelta(hours=2))
    assert (await ask(checks, [("cookie", cookie)])).allowed
    heard = await ask(checks, [("cookie", cookie), *SCRIPT], options={"max_age": "1h"})
    assert heard.status == 401
    assert 'max_age="3600"' in heard.to_client("www-authenticate")[0]


DEVICE_ID = "7b9a2f4e-6f0c-4c57-9d1f-0a8a4e9d3a11"
GOOD, PLANTED = cookie_header("aaa.bbb.ccc", DEVICE_ID), f"{TOKEN}=x.y.z"


@pytest.mark.parametrize(
    ("lines", "read"),
    [
        ([GOOD], True),
        ([GOOD, "other=1"], True),
        ([f"other=1,2,3; {GOOD}"], True),
        ([f'json={{"a":1,"b":2}}; {GOOD}'], True),
        ([GOOD, PLANTED], False),
        ([PLANTED, GOOD], False),
        ([f"{GOOD}; other=1", PLANTED], False),
        ([f"{GOOD}; other=1", f"more=1; {PLANTED}"], False),
        # A cookie of a sibling site, with a comma in its value.
        ([f"other=1,{PLANTED}; {GOOD}"], False),
        ([f"other=1,{PLANTED}"], False),
        ([f"other=1,{GOOD}"], False),
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_different_lines_of_one_cookie_count_as_no_cookie(lines: list[str], read: bool, raw: bool):
    asked = check_request([("cookie", line) for line in lines], raw=raw)
    attributes = pb.CheckRequest.FromString(asked).attributes
    request = request_of(attributes, FLOW.cookies, None)
    token, device = FLOW.cookies.read(request.headers.get("cookie", ()))
    # Envoy joins lines. The cookie before a comma may then have another value.
    joined = not raw and len(lines) > 1 and ";" not in lines[0].partition(DEVICE_ID)[2]
    if read and not joined:
        assert (token, device) == ("aaa.bbb.ccc", DEVICE_ID)
    else:
        assert token == ""


async def test_different_lines_of_one_cookie_give_no_session(fake: FakeAuthority, checks: Checks):
    cookie = browser_cookies(fake)
    for raw in (False, True):
        heard = await ask(
            checks, [("cookie", f"{cookie}; a=1"), ("cookie", PLANTED), *SCRIPT], raw=raw
        )
        assert heard.status == 401
        assert heard.to_client("set-cookie") == []


def test_the_client_s_address_is_the_source_of_the_request():
    for headers in ([], [("x-forwarded-for", "198.51.100.1")]):
        attributes = pb.CheckRequest.FromString(check_request(headers)).attributes
        request = request_of(attributes, FLOW.cookies, None)
        assert request.peer == CLIENT
        presented = FLOW.presented(request.method, request.headers, request.peer, request.target)
        assert presented.client.ip_address == CLIENT


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ([("cookie", "theme=dark")], True),
        ([("cookie", "a=" + "x" * 5000)], False),
        ([("authorization", "Basic " + "x" * 5000)], False),
        ([(f"x-session-{number}", "root") for number in range(400)], False),
        ([("x-session-" + "x" * 5000, "root")], False),
    ],
)
async def test_long_replies_to_envoy_do_not_fill_the_memory(
    headers: list[tuple[str, str]], kept: bool, checks: Checks
):
    """The number of remembered replies is limited, and not their size. So each of them must be
    short.
    """
    replies._plainly_allowed.cache_clear()
    assert (await ask(checks, headers, options={"session": "disabled"})).allowed
    assert replies._plainly_allowed.cache_info().currsize == int(kept)


def test_bytes_that_are_no_utf8_are_read_unchanged():
    for raw in (False, True):
        asked = check_request([("x-name", b"\xff\xfe")], raw=raw)
        attributes = pb.CheckRequest.FromString(asked).attributes
        assert request_of(attributes, FLOW.cookies, None).headers["x-name"] == ["\xff\xfe"]


async def test_text_that_is_sent_to_envoy_is_utf8(fake: FakeAuthority, checks: Checks):
    cookie = browser_cookies(fake)
    for name, shown in ((b"\xff", "\ufffd"), ("ü".encode(), "ü")):
        heard = await ask(checks, [("cookie", b"a=" + name + f"; {cookie}".encode())], raw=True)
        assert heard.allowed
        assert heard.upstream["Cookie"] == f"a={shown}"


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"\xff",
        b"\x0a\xff",
        pb.CheckRequest(attributes=pb.AttributeContext()).SerializeToString(),
        check_request(method=""),
        check_request(method="GET\n"),
        check_request(target=""),
        check_request(target="page"),
        check_request(target="/a b"),
        check_request(host=""),
        check_request(host="app.example, evil.example"),
    ],
)
async def test_a_malformed_request_is_denied(asked: bytes, checks: Checks):
    answer = await checks.reply(asked, 20.0)
    assert answer is not None
    heard = Reply(answer)
    assert (heard.allowed, heard.status) == (False, 400)
    assert json.loads(heard.body)["error"] == "not_understood"
