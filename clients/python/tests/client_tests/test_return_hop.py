"""The way back from another site with strict cookies: which requests are answered by the page that
asks again, and what that page holds.
"""

from __future__ import annotations

from typing import Any

import pytest

from client_tests.middleware_harness import APPS, Maker, browser_of, set_cookies
from session_authority_client._shared.responses import Response
from session_authority_client.cookies import Cookies, SameSite
from session_authority_client.flow import Flow, ReturnHop
from session_authority_client.testing import FakeAuthority

DEVICE = "123e4567-e89b-42d3-a456-426614174000"
LAX, STRICT = SameSite.LAX, SameSite.STRICT
TOKEN_COOKIE, DEVICE_COOKIE = "__Host-session=abc", f"__Host-device={DEVICE}"
COMES_BACK = {
    "sec-fetch-site": "cross-site",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
}
FLOW = Flow(return_paths=("/callback", "/mail/*"))


def hop_of(
    flow: Flow = FLOW,
    method: str = "GET",
    target: str = "/callback?code=a&state=b",
    **headers: str,
) -> Response | None:
    """The page that asks again; None if the request goes on."""
    named = {name.replace("_", "-"): [value] for name, value in headers.items()}
    given = {**{name: [value] for name, value in COMES_BACK.items()}, **named}
    try:
        flow.presented(method, {name: v for name, v in given.items() if v != [""]}, "", target)
    except ReturnHop as hop:
        return hop.answer
    return None


def test_a_page_asks_again_for_its_own_url_without_a_script():
    answer = hop_of(target="/callback?code=<secret>&state=\"'")
    assert answer is not None
    headers = dict(answer.headers)
    assert (answer.status, headers["Cache-Control"]) == (200, "no-store")
    assert headers["Content-Length"] == str(len(answer.body))
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert b'<meta http-equiv="refresh" content="0">' in answer.body
    assert b'<a href="">Go on</a>' in answer.body
    for never in (b"script", b"http:", b"src", b"callback", b"secret", b"url"):
        assert never not in answer.body


@pytest.mark.parametrize(
    "target", ["/callback", "/call%62ack", "/callback?", "/mail/", "/mail/news?a=b"]
)
def test_only_on_the_paths_that_the_app_names(target: str):
    assert hop_of(target=target)
    assert not hop_of(Flow(), target=target)
    assert not hop_of(Flow(return_paths=["/else"]), target=target)
    assert hop_of(Flow(return_paths=["/*"]), target=target)


@pytest.mark.parametrize("target", ["", "/", "/callback/", "/callbacks", "/mail", "//callback"])
def test_on_no_other_path(target: str):
    assert not hop_of(target=target)


@pytest.mark.parametrize(
    "request_of",
    [
        {"sec_fetch_site": "same-origin"},  # the second request: there is no loop
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": ""},
        {"sec_fetch_mode": "cors"},
        {"sec_fetch_mode": "no-cors"},
        {"sec_fetch_mode": "websocket"},
        {"sec_fetch_mode": ""},
        {"sec_fetch_dest": "iframe"},
        {"sec_fetch_dest": "embed"},
        {"sec_fetch_dest": "image"},
        {"sec_fetch_dest": ""},
        {"method": "HEAD"},
        {"authorization": "Bearer abc"},
        {"x_device_id": DEVICE},
        {"cookie": f"{TOKEN_COOKIE}; {DEVICE_COOKIE}"},
        {"cookie": DEVICE_COOKIE},
        {"cookie": TOKEN_COOKIE},
    ],
    ids=str,
)
def test_only_a_person_who_comes_from_another_site_without_the_cookies(request_of: Any):
    assert hop_of()
    assert hop_of(cookie="of_the_app=1")
    assert not hop_of(**request_of)


def test_a_form_of_another_site_is_refused_as_ever():
    with pytest.raises(Exception, match="cross_origin_request"):
        hop_of(method="POST", origin="https://id.example", host="app.example")


@pytest.mark.parametrize(
    ("token", "device", "cookie", "hops"),
    [
        (STRICT, LAX, "", True),
        (STRICT, LAX, DEVICE_COOKIE, True),  # the token may be there, and is kept back
        (STRICT, LAX, TOKEN_COOKIE, False),
        (LAX, STRICT, TOKEN_COOKIE, True),
        (LAX, STRICT, DEVICE_COOKIE, False),
        (LAX, LAX, "", False),  # nothing is kept back, so there is nothing
        (LAX, None, "", False),
    ],
)
def test_what_is_lax_is_not_waited_for(
    token: SameSite, device: SameSite | None, cookie: str, hops: bool
):
    flow = Flow(Cookies(same_site=token, device_same_site=device), return_paths=["/callback"])
    assert bool(hop_of(flow, cookie=cookie)) is hops


@pytest.mark.parametrize(
    "wrong",
    [
        "/callback",
        ["callback"],
        [""],
        ["/a?b"],
        ["/*/a"],
        ["/a#b"],
        ["//x"],
        ["//x/*"],
        [1],
        1,
        None,
    ],
)
def test_paths_are_checked(wrong: Any):
    with pytest.raises(ValueError, match="return_paths"):
        Flow(return_paths=wrong)


@pytest.mark.parametrize("name", APPS)
async def test_the_app_is_asked_the_second_time(authority: FakeAuthority, name: str):
    make: Maker = APPS[name]
    async with browser_of(make(authority, Flow(return_paths=("/maybe",)))) as browser:
        jar = set_cookies(await browser.post("/sign-in"))
        authority.calls.clear()
        browser.cookies.clear()
        hop = await browser.get("/maybe?code=a", headers=COMES_BACK)
        assert (hop.status_code, hop.headers["cache-control"]) == (200, "no-store")
        assert 'http-equiv="refresh"' in hop.text
        assert (set_cookies(hop), authority.calls) == ({}, {})
        cookie = "; ".join(f"{key}={line.partition(';')[0]}" for key, line in jar.items())
        own = {**COMES_BACK, "sec-fetch-site": "same-origin", "cookie": cookie}
        assert (await browser.get("/maybe?code=a", headers=own)).json() == "ada"
        stranger = {**COMES_BACK, "sec-fetch-site": "same-origin"}
        assert (await browser.get("/maybe?code=a", headers=stranger)).json() is None
