"""Passive paths: a page can poll for how long the session still lasts, without prolonging it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from client_tests.harness import until
from client_tests.middleware_harness import (
    APPS,
    BOTH,
    PATIENCE,
    TOKEN,
    Maker,
    attributes,
    browser_of,
    cookie_header,
    served_by,
    set_cookies,
)
from session_authority_client import AsyncSessionAuthority, NearCache, SessionAuthority
from session_authority_client._async.visits import AsyncVisits
from session_authority_client._sync.visits import Visits
from session_authority_client._testing.service import FakeService
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from tests.support.dev import dev_server
from tests.support.waiting import wait_for

PATH = "/session/time-left"
FLOW = Flow(passive_paths=(PATH,))
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


@pytest.fixture(params=APPS)
def make(request: pytest.FixtureRequest) -> Maker:
    return APPS[request.param]


async def left(browser: httpx.AsyncClient, **more: Any) -> timedelta | None:
    answer = await browser.get(PATH, **more)
    assert answer.status_code == 200
    if answer.json() is None:
        return None
    assert answer.headers["cache-control"] == "no-store"
    return timedelta(seconds=answer.json())


def near(found: timedelta | None, wanted: timedelta) -> bool:
    """Returns True if a time is the wanted one, or less than PATIENCE below it."""
    return found is not None and wanted - PATIENCE < found <= wanted


# --- the effect on the session --------------------------------------------------------------------


async def test_a_page_that_polls_sees_the_end_approach_and_does_not_postpone_it(
    authority: FakeAuthority, make: Maker
):
    async with browser_of(make(authority, FLOW)) as browser:
        await browser.post("/sign-in-for?idle_minutes=15")
        for passed in (0, 5, 9):
            authority.pass_time(passed * MINUTE)
            found = await left(browser)
        assert near(found, MINUTE)
        assert (await browser.get("/me")).status_code == 200  # as after a click on "stay signed in"
        assert near(await left(browser), 15 * MINUTE)
        for _ in range(3):
            authority.pass_time(5 * MINUTE)
            last = await left(browser)
        assert last is None
        assert (await browser.get("/me")).status_code == 401


async def test_a_request_to_any_other_path_postpones_the_end(authority: FakeAuthority, make: Maker):
    async with browser_of(make(authority)) as browser:
        await browser.post("/sign-in-for?idle_minutes=15")
        for _ in range(3):
            authority.pass_time(10 * MINUTE)
            assert near(await left(browser), 15 * MINUTE)


@pytest.mark.parametrize("query", ["brief=1&idle_minutes=90", "idle_minutes=90"])
async def test_a_poll_with_an_expired_token_renews_it_and_does_not_postpone_the_end(
    authority: FakeAuthority, make: Maker, query: str
):
    async with browser_of(make(authority, FLOW)) as browser:
        kept = set_cookies(await browser.post(f"/sign-in-for?{query}"))
        authority.pass_time(70 * MINUTE)  # a token lasts for an hour
        answer = await browser.get(PATH)
        assert near(timedelta(seconds=answer.json()), 20 * MINUTE)
        given = set_cookies(answer)
        assert set(given) == set(kept)
        assert ("Max-Age" in given[TOKEN]) is ("brief" not in query)
        assert authority.rotations == 1
        authority.pass_time(15 * MINUTE)
        assert near(await left(browser), 5 * MINUTE)
        authority.pass_time(5 * MINUTE)
        assert await left(browser) is None


async def test_a_poll_with_an_old_token_renews_it_and_does_not_postpone_the_end(
    authority: FakeAuthority, make: Maker
):
    async with browser_of(make(authority, FLOW)) as browser:
        await browser.post("/sign-in-for?idle_minutes=90")
        authority.pass_time(40 * MINUTE)
        assert set(set_cookies(await browser.get(PATH))) == BOTH  # as the headers go out
        authority.pass_time(49 * MINUTE)
        assert near(await left(browser), MINUTE)


async def test_a_stolen_token_raises_the_alarm_on_a_passive_path_too(
    authority: FakeAuthority, make: Maker
):
    async with browser_of(make(authority, FLOW)) as browser:
        await browser.post("/sign-in")
        authority.replay_tokens()
        answer = await browser.get(PATH)
        assert answer.json() is None
        assert set(set_cookies(answer)) == BOTH
        assert "Max-Age=0" in attributes(set_cookies(answer)[TOKEN])
        with authority.client(timeout=PATIENCE) as client:
            assert list(client.devices("ada")) == []


async def test_a_poll_of_an_app_that_is_no_browser_does_not_postpone_the_end(
    authority: FakeAuthority, make: Maker
):
    flow = Flow(passive_paths=(PATH, "/renew"))
    async with browser_of(make(authority, flow)) as client:
        issued = (
            await client.post("/sign-in-for?idle_minutes=90", headers={"x-device-id": ""})
        ).json()
        headers = {"authorization": f"Bearer {issued['token']}", "x-device-id": issued["device"]}
        authority.pass_time(70 * MINUTE)
        assert await left(client, headers=headers) is None  # its token has expired
        token = (await client.post("/renew", headers=headers)).json()["token"]
        headers["authorization"] = f"Bearer {token}"
        assert near(await left(client, headers=headers), 20 * MINUTE)


# --- the time that is reported --------------------------------------------------------------------


async def test_an_outage_is_not_reported_as_the_end(authority: FakeAuthority, make: Maker):
    async with browser_of(make(authority, FLOW)) as browser:
        assert await left(browser) is None
        await browser.post("/sign-in")
        with authority.unavailable():
            answer = await browser.get(PATH, headers={"accept": "*/*"})
        assert (answer.status_code, answer.json()) == (503, {"error": "unavailable"})
        assert near(await left(browser), timedelta(days=30))


@pytest.mark.parametrize(("ttl", "idle"), [(5, 15), (15, 5)])
def test_the_time_left_lasts_until_the_first_of_both_ends(
    authority: FakeAuthority, ttl: int, idle: int
):
    visits = Visits(lambda: authority.client(timeout=PATIENCE), FLOW)
    visit = visits.open("POST", {}, "127.0.0.1")
    assert visit.time_left() is None
    issued = visit.sign_in("ada", session_ttl=ttl * MINUTE, idle_timeout=idle * MINUTE)
    assert near(visit.time_left(), 5 * MINUTE)
    brought = cookie_header({"token": issued.access_token, "device": issued.device.device_id})
    headers = {name: [value] for name, value in brought.items()}
    authority.pass_time(4 * MINUTE)
    assert near(visits.open("GET", headers, "127.0.0.1", PATH).time_left(), MINUTE)
    visits.close()


def test_a_session_that_ends_this_moment_has_no_time_left(authority: FakeAuthority):
    """A session may end just after the service called it active. The time left is then zero."""
    visits = Visits(lambda: authority.client(timeout=PATIENCE), FLOW)
    visit = visits.open("POST", {}, "127.0.0.1")
    visit.sign_in("ada")
    assert visit._session is not None
    object.__setattr__(visit._session, "expire_time", visit._session.sign_in_time - SECOND)
    assert visit.time_left() == timedelta()
    visits.close()


async def test_the_near_cache_does_not_answer_a_poll(authority: FakeAuthority):
    """The use of a session by another process moves its end without the cache's knowledge."""
    cache = NearCache()

    def cached() -> AsyncSessionAuthority:
        return AsyncSessionAuthority(authority.address, timeout=PATIENCE, cache=cache)

    visits = AsyncVisits(cached, FLOW)
    with authority.client(timeout=PATIENCE) as elsewhere:
        issued = elsewhere.issue_device("ada", idle_timeout=15 * MINUTE)
        token, device = issued.access_token, issued.device.device_id
        headers = {
            name: [value]
            for name, value in cookie_header({"token": token, "device": device}).items()
        }

        await visits.open("GET", headers, "127.0.0.1", "/")  # starts the watch
        await until(lambda: cache.live)
        for _ in range(2):
            await visits.open("GET", headers, "127.0.0.1", "/")
        assert cache.stats().hits == 1
        authority.pass_time(10 * MINUTE)
        asks = await visits.open("GET", headers, "127.0.0.1", PATH)
        assert near(asks.time_left(), 5 * MINUTE)
        elsewhere.validate_session(token, device)
        asks = await visits.open("GET", headers, "127.0.0.1", f"{PATH}?again")
        assert near(asks.time_left(), 15 * MINUTE)
    await visits.close()


class _Noting(FakeService):
    """A fake service that notes for each renewal whether it was passive."""

    def __init__(self) -> None:
        super().__init__(timedelta(hours=1))
        self.passive: list[bool] = []

    def renew_session(self, request: Any, context: Any) -> Any:
        self.passive.append(request.passive)
        return super().renew_session(request, context)


async def test_a_renewal_that_counts_as_a_use_is_not_shared_with_a_passive_one():
    service = _Noting()
    with served_by(service) as authority:
        visits = AsyncVisits(lambda: authority.async_client(timeout=PATIENCE), FLOW)
        with SessionAuthority(authority.address, timeout=PATIENCE) as client:
            issued = client.issue_device("ada")
        brought = cookie_header({"token": issued.access_token, "device": issued.device.device_id})
        headers = {name: [value] for name, value in brought.items()}
        paths = (PATH, "/", PATH, "/")
        opened = [await visits.open("GET", headers, "127.0.0.1", path) for path in paths]
        await asyncio.gather(*(visit.renew() for visit in opened))
        assert set(service.passive) == {False, True}
        await visits.close()


def test_the_real_service_postpones_the_end_on_other_paths_only(tmp_path: Path):
    """Here the service writes a last use at most once a second, not once a minute."""
    with dev_server(tmp_path, {"SESSION_AUTHORITY_TOUCH_INTERVAL": "1s"}) as server:
        visits = Visits(lambda: SessionAuthority(server.address, timeout=PATIENCE), FLOW)
        visit = visits.open("POST", {}, "127.0.0.1")
        issued = visit.sign_in("ada", remember=False, idle_timeout=2 * MINUTE)
        ends = [visit.require().expire_time]
        assert visit.time_left() is not None
        brought = cookie_header({"token": issued.access_token, "device": issued.device.device_id})
        headers = {name: [value] for name, value in brought.items()}

        def seen(path: str) -> timedelta:
            asks = visits.open("GET", headers, "127.0.0.1", path)
            ends.append(asks.require().expire_time)
            left = asks.time_left()
            assert left is not None
            return left

        wait_for(lambda: seen(PATH) < 2 * MINUTE - 2 * SECOND, "two seconds to pass", 40)
        assert len(ends) > 2
        assert set(ends) == {ends[0]}
        seen("/")
        assert ends[-1] - ends[0] > SECOND

        def told() -> bool:
            seen(PATH)
            return ends[-1] - ends[0] > SECOND

        wait_for(told, "the use to be written", 40)
        visits.close()


# --- valid paths ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    [
        PATH,
        ("session",),
        ("/a?b",),
        ("/a*b",),
        ("/a#b",),
        ("",),
        ("//x",),
        ("//x/*",),
        ("/\\x",),
        (b"/x",),
        (1,),
        (None,),
        1,
        None,
        b"/x",
    ],
)
def test_invalid_passive_paths_are_refused(named: Any):
    with pytest.raises(ValueError, match="passive_paths: must be"):
        Flow(passive_paths=named)
