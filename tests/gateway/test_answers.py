"""What the gateway answers. Most tests run for every way in which a proxy asks."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from session_authority.gateway.identity import ASSERTION, IDENTITY_HEADERS
from session_authority_client import AsyncSessionAuthority
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from tests.gateway.harness import (
    DEVICE,
    FORMS,
    PROXY,
    TOKEN,
    Heard,
    Proxy,
    browser_cookies,
    cookie_header,
    proxy_before,
)

PAGE = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "none")]
SCRIPT = [("Accept", "application/json")]
FORGED = [(name, "root") for name in IDENTITY_HEADERS]


def check(heard: Heard, form: str, status: int, *, code: str = "") -> None:
    """Checks that the status reaches the client, for every way in which a proxy asks."""
    if status < 300:
        assert heard.status == (204 if form == "/auth-request" else 200)
        return
    if form == "/auth-request":
        shown = 401 if status in (401, 303) else 403
        assert (heard.status, heard["X-Session-Status"]) == (shown, str(status))
    else:
        assert heard.status == status
        check_for_scripts(heard)
    if code:
        assert json.loads(heard.body)["error"] == code


def check_for_scripts(heard: Heard) -> None:
    """Checks that scripts of a page can read a denial without learning a token, a device ID or a
    reason.
    """
    ours = ("x-session-", "cookie", "authorization", "x-device-id")
    assert [name for name, _ in heard.headers if name.startswith(ours)] == []


def check_anonymous(heard: Heard) -> None:
    """Checks that an allowed request has all identity headers, all of them empty, and that a denial
    has no identity header with a value.
    """
    if heard.status not in (200, 204):
        assert not any(value for name in IDENTITY_HEADERS for value in heard.all(name))
        return
    assert {name: heard[name] for name in IDENTITY_HEADERS} == dict.fromkeys(IDENTITY_HEADERS, "")


def location_of(heard: Heard, form: str) -> str:
    """The location that the client is sent to."""
    return heard["X-Session-Location" if form == "/auth-request" else "Location"]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """A kind of proxy."""
    return str(request.param)


async def test_a_page_without_a_session_is_redirected_to_the_sign_in(form: str, proxy: Proxy):
    heard = await proxy.ask(form, [*PAGE, *FORGED])
    check(heard, form, 303)
    assert location_of(heard, form) == "/sign-in?next=/page%3Fx%3D1"
    assert heard.all("Location") == (
        [] if form == "/auth-request" else ["/sign-in?next=/page%3Fx%3D1"]
    )
    check_anonymous(heard)


async def test_a_script_without_a_session_gets_401_as_json(form: str, proxy: Proxy):
    check(await proxy.ask(form, SCRIPT), form, 401, code="sign_in_required")


async def test_a_route_can_deny_pages_with_401(form: str, proxy: Proxy):
    check(await proxy.ask(form, PAGE, options="sign_in=401"), form, 401, code="sign_in_required")


async def test_an_app_gets_the_identity_of_a_good_session_and_no_token(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    cookie = browser_cookies(fake, claims={"name": "Ädá"}, auth_methods=["pwd", "otp"])
    heard = await proxy.ask(form, [("Cookie", f"theme=dark; {cookie}"), *FORGED])
    check(heard, form, 200)
    assert heard["X-Session-User"] == "ada"
    assert heard["X-Session-Device"] in cookie
    assert heard["X-Session-Auth-Methods"] == "pwd otp"
    assert heard["X-Session-Sign-In-Time"].endswith("Z")
    assert json.loads(heard["X-Session-Claims"]) == {"name": "Ädá"}
    assert heard["X-Session-Claims"].isascii()
    # With an empty device ID, the app behind the proxy would take the browser for a mobile app.
    onward = [heard.all(name) for name in ("Cookie", "Authorization", "X-Device-Id")]
    assert onward == [["theme=dark"], [], []]
    assert heard.cookies == {}
    assert heard[ASSERTION] == ""


async def test_credentials_are_passed_on_where_a_route_says_so(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    cookie = browser_cookies(fake)
    heard = await proxy.ask(form, [("Cookie", cookie)], options="credentials=keep")
    assert heard["Cookie"] == cookie
    bearer = fake.sign_in("bo")
    heard = await proxy.ask(form, list(bearer.items()), options="credentials=keep")
    assert (heard["Authorization"], heard["X-Device-Id"]) == tuple(bearer.values())


async def test_users_with_names_in_other_alphabets_are_distinct_in_headers(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    names = []
    for user in ("zoë", "zo%C3%AB", "zo"):
        heard = await proxy.ask(form, [("Cookie", browser_cookies(fake, user))])
        names.append(heard["X-Session-User"])
    assert names == ["zo%C3%AB", "zo%25C3%25AB", "zo"]


async def test_a_renewal_sets_its_cookies_on_the_allowed_answer(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    cookie = browser_cookies(fake)
    fake.pass_time(timedelta(minutes=10))
    fake.expire_tokens()
    heard = await proxy.ask(form, [("Cookie", cookie)])
    check(heard, form, 200)
    assert heard["X-Session-User"] == "ada"
    assert set(heard.cookies) == {TOKEN, DEVICE}
    numbered = [heard[f"X-Session-Set-Cookie-{number}"] for number in (1, 2, 3)]
    assert numbered == [*heard.all("Set-Cookie"), ""]
    assert heard["Cache-Control"] == "no-store"
    again = cookie_header(heard.cookies[TOKEN], heard.cookies[DEVICE])
    check(await proxy.ask(form, [("Cookie", again)]), form, 200)


async def test_a_renewal_before_a_denial_shows_its_token_to_no_script(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    cookie = browser_cookies(fake, age=timedelta(hours=1))
    fake.pass_time(timedelta(minutes=10))
    fake.expire_tokens()
    heard = await proxy.ask(form, [("Cookie", cookie), *SCRIPT], options="max_age=5m")
    check(heard, form, 401, code="insufficient_user_authentication")
    token = heard.cookies[TOKEN]
    assert token
    if form != "/auth-request":
        seen = [value for name, value in heard.headers if name != "set-cookie"]
        assert not any(token in value for value in [*seen, heard.body.decode()])


async def test_envoy_learns_over_http_which_headers_to_remove(proxy: Proxy, fake: FakeAuthority):
    """Envoy passes on the client's own header where an answer has none of that name."""
    app = fake.sign_in("ada")
    heard = await proxy.ask("/ext-authz", [*app.items(), ("X-Session-Admin", "root")])
    check(heard, "/ext-authz", 200)
    gone = heard["X-Envoy-Auth-Headers-To-Remove"].split(",")
    assert set(gone) == {"cookie", "authorization", "x-device-id", "x-session-admin"}


async def test_a_replayed_token_is_denied_and_its_cookies_are_deleted(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    cookie = browser_cookies(fake)
    fake.replay_tokens()
    heard = await proxy.ask(form, [("Cookie", cookie), *SCRIPT])
    check(heard, form, 401, code="sign_in_required")
    assert heard.cookies == {TOKEN: "", DEVICE: ""}
    assert heard["Clear-Site-Data"] == '"cache"'


async def test_a_session_that_was_revoked_is_denied(form: str, proxy: Proxy, fake: FakeAuthority):
    cookie = browser_cookies(fake)
    check(await proxy.ask(form, [("Cookie", cookie)]), form, 200)
    fake.sign_out("ada")
    check(await proxy.ask(form, [("Cookie", cookie)]), form, 401)


async def test_a_token_on_another_device_is_denied(form: str, proxy: Proxy, fake: FakeAuthority):
    mine, other = fake.sign_in("ada"), fake.sign_in("bo")
    heard = await proxy.ask(
        form,
        [("Authorization", mine["Authorization"]), ("X-Device-Id", other["X-Device-Id"])],
    )
    check(heard, form, 401)
    check_anonymous(heard)


async def test_an_outage_is_503_and_never_a_sign_out(form: str, proxy: Proxy, fake: FakeAuthority):
    cookie = browser_cookies(fake)
    with fake.unavailable():
        for options in ("", "session=optional"):
            heard = await proxy.ask(form, [("Cookie", cookie)], options=options)
            check(heard, form, 503, code="unavailable")
            assert heard["Retry-After"] == "1"
            assert heard.cookies == {}
        # The request has no token, so there is nothing to ask the service.
        check(await proxy.ask(form, options="session=optional"), form, 200)
        check(await proxy.ask(form, [("Cookie", cookie)], options="session=disabled"), form, 200)


async def test_optional_routes_pass_with_or_without_an_identity(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    anonymous = await proxy.ask(form, FORGED, options="session=optional")
    check(anonymous, form, 200)
    check_anonymous(anonymous)
    heard = await proxy.ask(form, [("Cookie", browser_cookies(fake))], options="session=optional")
    assert heard["X-Session-User"] == "ada"


async def test_disabled_routes_ask_no_service_and_give_no_identity(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    cookie = browser_cookies(fake)
    fake.calls.clear()
    heard = await proxy.ask(
        form, [("Cookie", f"a=b; {cookie}"), *FORGED], options="session=disabled"
    )
    check(heard, form, 200)
    check_anonymous(heard)
    assert heard["Cookie"] == "a=b"
    assert not fake.calls


async def test_a_step_up_is_required_by_the_route(form: str, proxy: Proxy, fake: FakeAuthority):
    cookie = browser_cookies(fake, auth_methods=["pwd"], age=timedelta(hours=1))
    for options in ("max_age=5m", "auth_methods=otp,hwk"):
        heard = await proxy.ask(form, [("Cookie", cookie), *SCRIPT], options=options)
        check(heard, form, 401, code="insufficient_user_authentication")
        heard = await proxy.ask(form, [("Cookie", cookie), *PAGE], options=options)
        check(heard, form, 303)
        assert "reason=step_up" in location_of(heard, form)
    heard = await proxy.ask(form, [("Cookie", cookie)], options="max_age=2h&auth_methods=otp,pwd")
    check(heard, form, 200)


@pytest.mark.parametrize(
    "options",
    [
        "session=maybe",
        "sesion=optional",
        "max_age=soon",
        "max_age=-1s",
        "max_age",
        "auth_methods=",
        "app=unknown",
        "session=optional&session=disabled",
        "session=optional&max_age=5m",
        "%ff=1",
    ],
)
async def test_wrong_options_of_a_route_deny(
    form: str, options: str, proxy: Proxy, fake: FakeAuthority
):
    heard = await proxy.ask(form, [("Cookie", browser_cookies(fake))], options=options)
    check(heard, form, 500, code="misconfigured")
    check_anonymous(heard)


async def test_the_origin_is_checked_against_the_host_of_the_original_request(
    form: str, proxy: Proxy, fake: FakeAuthority
):
    cookie = ("Cookie", browser_cookies(fake))
    own = [cookie, ("Origin", "https://app.example")]
    check(await proxy.ask(form, own, method="POST"), form, 200)
    foreign = [cookie, ("Origin", "https://evil.example")]
    heard = await proxy.ask(form, foreign, method="POST")
    check(heard, form, 403, code="cross_origin_request")
    check(await proxy.ask(form, foreign), form, 200)


async def test_an_assertion_goes_to_the_app_of_the_route(
    form: str, authority: AsyncSessionAuthority, fake: FakeAuthority
):
    proxy = proxy_before(
        authority, assertions=lambda session, route: f"{session.user_id}@{route.audience}"
    )
    heard = await proxy.ask(form, [("Cookie", browser_cookies(fake))], options="app=shop")
    assert heard[ASSERTION] == "ada@https://shop.example"


async def test_a_browser_that_returns_from_another_site_gets_a_page_that_reloads(
    form: str, authority: AsyncSessionAuthority
):
    proxy = proxy_before(authority, Flow(trusted_proxies=[PROXY], return_paths=["/page"]))
    heard = await proxy.ask(
        form,
        [
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ],
    )
    # A status of success would let the request through.
    check(heard, form, 401)
    assert b'http-equiv="refresh"' in heard.body
