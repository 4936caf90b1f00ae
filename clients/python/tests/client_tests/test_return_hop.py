"""The return hop: with strict cookies, a user comes back from another site without any cookies. A
page then loads its own URL again, and the app sees only the second request.

The cases of `presented` say which requests get that page.
"""

from __future__ import annotations

from typing import Any

import pytest

from client_tests.middleware_harness import APPS, Maker, browser_of, set_cookies
from session_authority_client.cookies import SameSite
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


def test_the_page_loads_its_own_url_again_without_a_script():
    headers = {name: [value] for name, value in COMES_BACK.items()}
    with pytest.raises(ReturnHop) as hop:
        FLOW.presented("GET", headers, "", "/callback?code=<secret>&state=\"'")
    answer = hop.value.answer
    said = dict(answer.headers)
    assert (answer.status, said["Cache-Control"]) == (200, "no-store")
    assert said["Content-Length"] == str(len(answer.body))
    assert said["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert b'<meta http-equiv="refresh" content="0">' in answer.body
    assert b'<a href="">Go on</a>' in answer.body
    for never in (b"script", b"http:", b"src", b"callback", b"secret", b"url"):
        assert never not in answer.body


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
def test_invalid_return_paths_are_refused(wrong: Any):
    with pytest.raises(ValueError, match="return_paths"):
        Flow(return_paths=wrong)


@pytest.mark.parametrize("name", APPS)
async def test_only_the_second_request_reaches_the_app(authority: FakeAuthority, name: str):
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
