"""Which responses caches may keep: none that holds a token, no page of a user unless the app allows
it. After a sign-out, the browser keeps nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from client_tests.middleware_harness import APPS, Maker, browser_of, set_cookies
from session_authority_client._shared.caching import is_about_caching
from session_authority_client.testing import FakeAuthority

PUBLIC = {
    "Cache-Control": "public, max-age=600",
    "CDN-Cache-Control": "max-age=600",
    "Cloudflare-CDN-Cache-Control": "max-age=600",
    "Vercel-CDN-Cache-Control": "max-age=600",
    "X-LiteSpeed-Cache-Control": "public",
    "Surrogate-Control": "max-age=600",
    "Edge-Control": "cache-maxage=600s",
    "X-Accel-Expires": "600",
    "Expires": "Fri, 01 Jan 2100 00:00:00 GMT",
}
SAID = [f"{name}: {value}" for name, value in PUBLIC.items()]
HTML = "Content-Type: text/html; charset=utf-8"
CLEAR = '"cache"'


@pytest.fixture(params=APPS)
def make(request: pytest.FixtureRequest) -> Maker:
    return APPS[request.param]


@pytest.fixture
async def browser(make: Maker, authority: FakeAuthority) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_of(make(authority)) as browser:
        yield browser


def for_caches(answer: httpx.Response) -> dict[str, str]:
    """Returns the headers of a response that are about caching, by lower-case names."""
    return {name: value for name, value in answer.headers.items() if is_about_caching(name)}


def assert_no_cache_keeps(answer: httpx.Response) -> None:
    assert for_caches(answer) == {"cache-control": "no-store"}


# --- responses that hold a token ------------------------------------------------------------------


async def test_no_cache_keeps_a_response_that_hands_out_a_token(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    said = {"say": SAID}
    assert_no_cache_keeps(await browser.post("/sign-in", params=said))
    for path in ("/me", "/next"):
        authority.age_tokens()
        renewed = await browser.get(path, params=said)
        assert len(set_cookies(renewed)) == 2
        assert_no_cache_keeps(renewed)
    authority.expire_tokens()
    assert_no_cache_keeps(await browser.get("/maybe", params=said))
    assert_no_cache_keeps(await browser.post("/sign-out", params=said))


async def test_no_cache_keeps_a_token_for_an_app_that_is_not_a_browser(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    app = {"x-device-id": ""}
    signed_in = await browser.post("/sign-in", params={"say": SAID}, headers=app)
    assert set_cookies(signed_in) == {}
    assert_no_cache_keeps(signed_in)
    issued = signed_in.json()
    headers = {"authorization": f"Bearer {issued['token']}", "x-device-id": issued["device"]}
    authority.expire_tokens()
    renewed = await browser.post("/renew", params={"say": SAID}, headers=headers)
    assert renewed.json()["token"]
    assert_no_cache_keeps(renewed)


async def test_other_headers_of_the_app_are_kept(browser: httpx.AsyncClient):
    kept = {"ETag": '"1"', "X-Expires": "1", "Cache-Tag": "a", "Content-Language": "de"}
    said = [f"{name}: {value}" for name, value in kept.items()]
    answer = await browser.post("/sign-in", params={"say": said})
    assert {name: answer.headers[name] for name in kept} == kept


# --- pages of users who are signed in -------------------------------------------------------------


async def test_no_cache_keeps_a_page_of_a_user_who_is_signed_in(browser: httpx.AsyncClient):
    await browser.post("/sign-in")
    for path, said in (("/me", []), ("/maybe", []), ("/next", [HTML])):
        answer = await browser.get(path, params={"say": said})
        assert set_cookies(answer) == {}
        assert_no_cache_keeps(answer)


@pytest.mark.parametrize("line", SAID)
async def test_the_app_may_let_caches_keep_a_page_of_a_user(browser: httpx.AsyncClient, line: str):
    await browser.post("/sign-in")
    answer = await browser.get("/me", params={"say": [line, HTML]})
    name, _, value = line.partition(": ")
    assert for_caches(answer) == {name.lower(): value}


async def test_a_response_that_is_the_same_for_all_users_is_left_alone(browser: httpx.AsyncClient):
    assert for_caches(await browser.get("/maybe", params={"say": [HTML]})) == {}
    await browser.post("/sign-in")
    # /next is no page here, and its handler asks for no session
    assert for_caches(await browser.get("/next")) == {}


# --- after a sign-out -----------------------------------------------------------------------------


def clears(answer: httpx.Response) -> str:
    return ", ".join(answer.headers.get_list("clear-site-data"))


async def test_a_sign_out_clears_the_cache_of_the_browser(browser: httpx.AsyncClient):
    assert clears(await browser.post("/sign-in")) == ""
    assert clears(await browser.get("/me")) == ""
    assert clears(await browser.post("/sign-out-everywhere")) == ""  # this device stays signed in
    assert clears(await browser.post("/sign-out")) == CLEAR
    assert clears(await browser.post("/sign-out")) == ""
    await browser.post("/sign-in")
    everywhere = await browser.post("/sign-out-everywhere", params={"also_here": "true"})
    assert clears(everywhere) == CLEAR


async def test_a_sign_out_on_another_device_does_not_clear_the_cache_here(
    browser: httpx.AsyncClient,
):
    await browser.post("/sign-in")
    other = {"device": "123e4567-e89b-42d3-a456-426614174000"}
    assert clears(await browser.post("/sign-out", params=other)) == ""


async def test_the_app_may_clear_more_site_data(browser: httpx.AsyncClient):
    await browser.post("/sign-in")
    said = {"say": ['Clear-Site-Data: "storage"']}
    assert clears(await browser.post("/sign-out", params=said)) == f'"storage", {CLEAR}'


async def test_another_user_or_a_replay_clears_the_cache_too(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in", params={"user": "ada"})
    assert clears(await browser.post("/sign-in", params={"user": "ada"})) == ""
    assert clears(await browser.post("/sign-in", params={"user": "bob"})) == CLEAR
    authority.replay_tokens()
    assert clears(await browser.get("/me")) == CLEAR


async def test_a_sign_out_by_an_app_or_from_another_site_does_not_clear_the_cache(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    headers = authority.sign_in("ada")
    assert clears(await browser.post("/sign-out", headers=headers)) == ""
    # as from another site: the browser sends no strict cookies
    assert clears(await browser.post("/sign-out")) == ""
