"""What a proxy says about the original request, what the gateway believes, and what hostile input
leads to.
"""

from __future__ import annotations

import pytest

from session_authority.gateway.decision import Gateway
from session_authority.gateway.routes import Need, Route
from session_authority_client import AsyncSessionAuthority
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from tests.gateway.harness import (
    FLOW,
    FORMS,
    Proxy,
    browser_cookies,
    cookie_header,
    original,
    proxy_before,
    token_of,
)
from tests.gateway.test_answers import check, check_anonymous, location_of

TELLING = ("/forward-auth", "/auth-request")
TOLD = {
    "X-Forwarded-Method": "GET",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "app.example",
    "X-Forwarded-Uri": "/page?x=1",
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """A kind of proxy."""
    return str(request.param)


@pytest.mark.parametrize("form", TELLING)
@pytest.mark.parametrize("peer", ["10.0.0.3", "::1", ""])
async def test_only_a_trusted_proxy_is_believed(
    form: str, peer: str, proxy: Proxy, fake: FakeAuthority
):
    proxy.peer = peer
    heard = await proxy.ask(form, [("Cookie", browser_cookies(fake))])
    assert heard.status == 400
    assert b"trusted_proxies" in heard.body
    assert heard.all("X-Session-User") == []


@pytest.mark.parametrize("form", TELLING)
async def test_without_trusted_proxies_none_is_believed(
    form: str, authority: AsyncSessionAuthority
):
    assert (await proxy_before(authority, Flow()).ask(form)).status == 400


@pytest.mark.parametrize("form", TELLING)
async def test_a_proxy_at_a_unix_socket_may_be_trusted(form: str, authority: AsyncSessionAuthority):
    proxy = proxy_before(authority, Flow(trusted_proxies=["unix"]))
    proxy.peer = ""
    check(await proxy.ask(form), form, 401)


@pytest.mark.parametrize("form", TELLING)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-Method", None),
        ("X-Forwarded-Uri", None),
        ("X-Forwarded-Host", None),
        ("X-Forwarded-Method", "G T"),
        ("X-Forwarded-Method", ""),
        ("X-Forwarded-Proto", "ftp"),
        ("X-Forwarded-Proto", "https, http"),
        ("X-Forwarded-Host", "app.example, evil.example"),
        ("X-Forwarded-Host", "app.example/x"),
        ("X-Forwarded-Host", "a@b"),
        ("X-Forwarded-Uri", "page"),
        ("X-Forwarded-Uri", "/a b"),
        ("X-Forwarded-Uri", "/a\tb"),
        ("X-Forwarded-Uri", "/a\x00"),
    ],
)
async def test_a_request_without_its_original_is_denied(
    form: str, name: str, value: str | None, proxy: Proxy, fake: FakeAuthority
):
    told = {**TOLD, name: value}
    headers = [(name, value) for name, value in told.items() if value is not None]
    headers += [("Host", "gateway"), ("Cookie", browser_cookies(fake))]
    heard = await proxy.send("GET", form, headers)
    assert heard.status == 400
    assert heard.all("X-Session-User") == []


@pytest.mark.parametrize("form", TELLING)
@pytest.mark.parametrize(
    "second",
    [
        ("X-Forwarded-Method", "OPTIONS"),
        ("X-Original-Method", "OPTIONS"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Uri", "/public"),
        ("X-Original-URI", "/public"),
        ("X-Forwarded-Proto", "http"),
        ("X-Original-URL", "https://evil.example/page?x=1"),
        ("X-Original-URL", "http://app.example/page?x=1"),
        ("X-Original-URL", "https://app.example/public"),
        ("X-Original-URL", "/page"),
    ],
)
async def test_a_second_header_from_the_client_is_not_believed(
    form: str, second: tuple[str, str], proxy: Proxy, fake: FakeAuthority
):
    headers = [*TOLD.items(), second, ("Cookie", browser_cookies(fake))]
    assert (await proxy.send("GET", form, headers)).status == 400


@pytest.mark.parametrize(
    "told",
    [
        {"X-Original-Method": "GET", "X-Original-URI": "/page?x=1", "Host": "app.example"},
        {"X-Original-Method": "GET", "X-Original-URL": "https://app.example/page?x=1"},
    ],
)
async def test_nginx_s_own_headers_for_the_original_are_read(told: dict[str, str], proxy: Proxy):
    page = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "none")]
    heard = await proxy.send("GET", "/auth-request", [*told.items(), *page])
    assert heard["X-Session-Location"] == "/sign-in?next=/page%3Fx%3D1"


@pytest.mark.parametrize("form", TELLING)
async def test_the_client_never_chooses_the_route(form: str, proxy: Proxy, fake: FakeAuthority):
    """If the URL of the check has no query, Caddy appends the query of the original request."""
    target = "/page?session=disabled"
    headers = [*({**TOLD, "X-Forwarded-Uri": target}).items()]
    check(await proxy.send("GET", f"{form}?session=disabled", headers), form, 401)
    misplaced = await proxy.send("GET", f"{form}?max_age=5m", headers)
    assert misplaced.status == 400
    assert b"belong in the path" in misplaced.body


@pytest.mark.parametrize(
    "path",
    [
        "/ext-authz/:session=disabled/page",
        "/ext-authz//ext-authz:session=disabled/page",
        "/ext-authz/%3Asession=disabled/page",
        "/ext-authz/page?session=disabled",
        "/ext-authz/..;/page",
        "/ext-authz/%2f%2fevil.example",
        "/ext-authz/a;session=disabled",
        "/ext-authz/http://evil.example/",
    ],
)
async def test_a_path_of_the_client_changes_no_route(path: str, proxy: Proxy):
    heard = await proxy.send("GET", path, [("Host", "app.example")])
    check(heard, "/ext-authz", 401)


@pytest.mark.parametrize(
    "target",
    ["//evil.example/", "/%2f%2fevil.example", "/\\evil.example", "http://evil.example//x", "*"],
)
async def test_no_path_redirects_a_browser_to_another_site_after_the_sign_in(
    form: str, target: str, proxy: Proxy
):
    page = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "none")]
    if form == "/ext-authz" and not target.startswith("/"):
        target = "/" + target
    heard = await proxy.ask(form, page, target=target)
    check(heard, form, 303)
    assert location_of(heard, form) in (
        "/sign-in",
        "/sign-in?next=/http%3A//evil.example//x",
        "/sign-in?next=/%2A",
    )


async def test_doubled_credentials_count_as_none(form: str, proxy: Proxy, fake: FakeAuthority):
    ada, bo = fake.sign_in("ada"), fake.sign_in("bo")
    first, second = (
        cookie_header(app["Authorization"].removeprefix("Bearer "), app["X-Device-Id"])
        for app in (ada, bo)
    )
    doubled = [
        [("Cookie", first), ("Cookie", second)],
        [("Cookie", f"{first}; {second}")],
        [("Cookie", f"{first}, {second}")],
        [*ada.items(), ("Authorization", bo["Authorization"])],
        [*ada.items(), ("X-Device-Id", bo["X-Device-Id"])],
    ]
    for headers in doubled:
        for options in ("", "session=optional"):
            heard = await proxy.ask(form, headers, options=options)
            if not options:
                check(heard, form, 401)
            check_anonymous(heard)
            assert token_of(first) not in [*heard.all("Cookie"), *heard.all("Authorization")]


async def test_64_kib_of_cookies_are_answered(form: str, proxy: Proxy, fake: FakeAuthority):
    many = "; ".join(f"c{number}={'x' * 1000}" for number in range(64))
    heard = await proxy.ask(form, [("Cookie", f"{many}; {browser_cookies(fake)}")])
    check(heard, form, 200)
    assert heard["X-Session-User"] == "ada"
    assert heard["Cookie"] == many


async def test_head_requests_are_answered_without_a_body(proxy: Proxy):
    heard = await proxy.ask("/ext-authz", method="HEAD")
    assert (heard.status, heard.body) == (401, b"")
    assert int(heard["Content-Length"]) > 0


async def test_the_body_of_a_check_is_ignored(form: str, proxy: Proxy, fake: FakeAuthority):
    headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Cookie", browser_cookies(fake)),
        ("Origin", "https://app.example"),
    ]
    check(await proxy.ask(form, headers, method="POST"), form, 200)


@pytest.mark.parametrize(
    "path", ["/", "/forward-auth/x", "/forward-authx", "/ext-authzx/a", "/%66orward-auth"]
)
async def test_unknown_paths_are_not_found(path: str, proxy: Proxy):
    heard = await proxy.send("GET", path, TOLD.items())
    assert heard.status == 404


async def test_forged_headers_are_named_for_removal(authority: AsyncSessionAuthority):
    gateway = Gateway(authority, FLOW)
    headers = {
        name: ["root"]
        for name in (
            "x_session_user",
            "x-session_id",
            "x-session-admin",
            "x-session-user",
            "x.session.user",
            "X-Session.User",
            "x~session~user",
            "x-sessions",
        )
    }
    for need in Need:
        answer = await gateway.decide(original(headers), Route(session=need))
        gone = set(answer.removed) | {name.lower() for name, _ in answer.upstream}
        assert gone >= headers.keys() - {"x-sessions"}
        assert "x-sessions" not in gone
