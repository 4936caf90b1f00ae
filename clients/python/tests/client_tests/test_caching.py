"""What caches may keep: never a token, no page of a user unless the app says so, and nothing in the
browser after a sign-out.
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
    """What a response says to caches, by lower-case names."""
    return {name: value for name, value in answer.headers.items() if is_about_caching(name)}


def assert_no_cache_keeps(answer: httpx.Response) -> None:
    assert for_caches(answer) == {"cache-control": "no-store"}


# --- what holds a token ---------------------------------------------------------------------------


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


async def test_no_cache_keeps_the_token_of_an_app_that_is_no_browser(
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


async def test_other_headers_of_the_app_stay(browser: httpx.AsyncClient):
    kept = {"ETag": '"1"', "X-Expires": "1", "Cache-Tag": "a", "Content-Language": "de"}
    said = [f"{name}: {value}" for name, value in kept.items()]
    answer = await browser.post("/sign-in", params={"say": said})
    assert {name: answer.headers[name] for name in kept} == kept


# --- pages of those who are signed in -------------------------------------------------------------


async def test_a_page_for_the_signed_in_is_not_kept(browser: httpx.AsyncClient):
    await browser.post("/sign-in")
    for path, said in (("/me", []), ("/maybe", []), ("/next", [HTML])):
        answer = await browser.get(path, params={"say": said})
        assert set_cookies(answer) == {}
        assert_no_cache_keeps(answer)


@pytest.mark.parametrize("line", SAID)
async def test_unless_the_app_says_otherwise(browser: httpx.AsyncClient, line: str):
    await browser.post("/sign-in")
    answer = await browser.get("/me", params={"say": [line, HTML]})
    name, _, value = line.partition(": ")
    assert for_caches(answer) == {name.lower(): value}


async def test_what_is_the_same_for_all_is_left_alone(browser: httpx.AsyncClient):
    assert for_caches(await browser.get("/maybe", params={"say": [HTML]})) == {}
    await browser.post("/sign-in")
    assert for_caches(await browser.get("/next")) == {}  # it is no page, and asks for no session


# --- after a sign-out -----------------------------------------------------------------------------


def clears(answer: httpx.Response) -> str:
    return ", ".join(answer.headers.get_list("clear-site-data"))


async def test_a_sign_out_empties_the_cache_of_the_browser(browser: httpx.AsyncClient):
    assert clears(await browser.post("/sign-in")) == ""
    assert clears(await browser.get("/me")) == ""
    assert clears(await browser.post("/sign-out-everywhere")) == ""  # it stays signed in here
    assert clears(await browser.post("/sign-out")) == CLEAR
    assert clears(await browser.post("/sign-out")) == ""
    await browser.post("/sign-in")
    everywhere = await browser.post("/sign-out-everywhere", params={"also_here": "true"})
    assert clears(everywhere) == CLEAR


async def test_a_sign_out_on_another_device_empties_nothing_here(browser: httpx.AsyncClient):
    await browser.post("/sign-in")
    other = {"device": "123e4567-e89b-42d3-a456-426614174000"}
    assert clears(await browser.post("/sign-out", params=other)) == ""


async def test_the_app_may_clear_more(browser: httpx.AsyncClient):
    await browser.post("/sign-in")
    said = {"say": ['Clear-Site-Data: "storage"']}
    assert clears(await browser.post("/sign-out", params=said)) == f'"storage", {CLEAR}'


async def test_another_user_or_a_replay_empties_it_too(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in", params={"user": "ada"})
    assert clears(await browser.post("/sign-in", params={"user": "ada"})) == ""
    assert clears(await browser.post("/sign-in", params={"user": "bob"})) == CLEAR
    authority.replay_tokens()
    assert clears(await browser.get("/me")) == CLEAR


async def test_what_another_site_sends_and_an_app_empty_nothing(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    headers = authority.sign_in("ada")
    assert clears(await browser.post("/sign-out", headers=headers)) == ""
    assert clears(await browser.post("/sign-out")) == ""  # strict cookies were kept back
