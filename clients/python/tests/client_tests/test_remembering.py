"""Sessions that end with the browser: their cookies, through every renewal, and their idle time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from client_tests.middleware_harness import (
    APPS,
    BOTH,
    DEVICE,
    PATIENCE,
    TOKEN,
    Maker,
    attributes,
    browser_of,
    set_cookies,
)
from session_authority_client import InvalidRequest, SessionAuthority
from session_authority_client._sync.visits import Visits
from session_authority_client.cookies import Cookies
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from tests.support.dev import dev_server

BRIEF = "__Host-session-brief"
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
RULES = {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"}
LASTING = "Max-Age=34560000"


@pytest.fixture(params=APPS)
def make(request: pytest.FixtureRequest) -> Maker:
    return APPS[request.param]


async def test_a_session_that_is_not_remembered_ends_with_the_browser_through_all_renewals(
    authority: FakeAuthority, make: Maker
):
    async with browser_of(make(authority)) as browser:
        answers = [await browser.post("/sign-in-for?brief=1")]
        for _ in range(3):
            authority.expire_tokens()
            answers.append(await browser.get("/me"))
        authority.age_tokens()
        answers.append(await browser.get("/maybe"))  # renewed as the headers go out
    assert authority.rotations == 4
    for answer in answers:
        given = set_cookies(answer)
        assert set(given) == {TOKEN, DEVICE, BRIEF}
        assert attributes(given[TOKEN]) == attributes(given[BRIEF]) == RULES
        assert attributes(given[DEVICE]) == RULES | {LASTING}


async def test_a_session_that_is_remembered_outlives_the_browser_through_all_renewals(
    authority: FakeAuthority, make: Maker
):
    """A remembered session may have a short idle time. Its cookies outlive the browser."""
    async with browser_of(make(authority)) as browser:
        answers = [await browser.post("/sign-in-for?idle_minutes=15")]
        for _ in range(2):
            authority.expire_tokens()
            answers.append(await browser.get("/me"))
        for answer in answers:
            given = set_cookies(answer)
            assert set(given) == BOTH
            assert any(rule.startswith("Max-Age=25919") for rule in attributes(given[TOKEN]))
        authority.pass_time(14 * MINUTE)
        assert (await browser.get("/me")).status_code == 200
        authority.pass_time(15 * MINUTE)
        assert (await browser.get("/me")).status_code == 401


@pytest.mark.parametrize(
    ("flow", "query", "idle"),
    [
        (Flow(), "brief=1", 12 * HOUR),
        (Flow(brief_idle_timeout=HOUR), "brief=1", HOUR),
        (Flow(brief_idle_timeout=HOUR), "brief=1&idle_minutes=30", HOUR / 2),
    ],
)
async def test_an_unused_session_ends_after_its_own_idle_time(
    authority: FakeAuthority, make: Maker, flow: Flow, query: str, idle: timedelta
):
    async with browser_of(make(authority, flow)) as browser:
        await browser.post(f"/sign-in-for?{query}")
        for _ in range(2):
            authority.pass_time(idle - MINUTE)
            assert (await browser.get("/me")).status_code == 200
        authority.pass_time(idle)
        assert (await browser.get("/me")).status_code == 401


async def test_each_sign_in_decides_anew_whether_the_session_is_remembered(
    authority: FakeAuthority, make: Maker
):
    async with browser_of(make(authority)) as browser:
        for query, brief in (("", False), ("?brief=1", True), ("", False), ("?brief=1", True)):
            device = browser.cookies.get(DEVICE)
            await browser.post(f"/sign-in-for{query}")
            authority.expire_tokens()
            given = set_cookies(await browser.get("/me"))
            kept = any(rule.startswith("Max-Age=") for rule in attributes(given[TOKEN]))
            assert kept is not brief
            assert device in (None, browser.cookies[DEVICE])


@pytest.mark.parametrize("end", ["/sign-out", "/me"])
async def test_the_brief_cookie_is_removed_with_the_session(
    authority: FakeAuthority, make: Maker, end: str
):
    async with browser_of(make(authority)) as browser:
        await browser.post("/sign-in-for?brief=1")
        if end == "/me":
            authority.replay_tokens()
        answer = await browser.request("GET" if end == "/me" else "POST", end)
        assert "Max-Age=0" in attributes(set_cookies(answer)[BRIEF])
        assert BRIEF not in browser.cookies


async def test_an_app_that_is_no_browser_gets_the_idle_time_without_cookies(
    authority: FakeAuthority, make: Maker
):
    async with browser_of(make(authority)) as client:
        answer = await client.post("/sign-in-for?brief=1", headers={"x-device-id": ""})
        issued = answer.json()
        headers = {"authorization": f"Bearer {issued['token']}", "x-device-id": issued["device"]}
        assert set_cookies(answer) == {}
        authority.pass_time(12 * HOUR)
        assert (await client.post("/renew", headers=headers)).status_code == 401


@pytest.mark.parametrize("remember", [True, False])
def test_a_sign_in_that_replaces_a_session_can_keep_its_choice(
    authority: FakeAuthority, remember: bool
):
    """A step-up in a session that is not remembered must not make it a remembered one."""
    visits = Visits(lambda: authority.client(timeout=PATIENCE), Flow())
    visit = visits.open("POST", {}, "127.0.0.1")
    assert visit.remembered
    visit.sign_in("ada", remember=remember)
    for _ in range(3):
        assert visit.remembered is remember
        pairs = [line.partition(";")[0] for line in visit.close()]
        visit = visits.open("POST", {"cookie": ["; ".join(pairs)]}, "127.0.0.1")
        assert visit.remembered is remember
        visit.sign_in("ada", remember=visit.remembered)
    visit.sign_in("ada", remember=not remember)
    assert visit.remembered is not remember
    visits.close()


def test_an_app_may_set_no_cookie_with_the_name_of_the_brief_cookie(authority: FakeAuthority):
    assert Cookies().is_set_by(f"{BRIEF}=x; Path=/")
    with pytest.raises(ValueError, match="are two cookies"):
        Cookies(token="a", device="a-brief")


@pytest.mark.parametrize("idle", [timedelta(), timedelta(seconds=59), -HOUR])
def test_an_idle_time_below_a_minute_is_refused(idle: timedelta):
    with pytest.raises(ValueError, match="brief_idle_timeout"):
        Flow(brief_idle_timeout=idle)


@pytest.mark.parametrize("idle", [60, 3600.0, "1h", None, True])
def test_an_idle_time_that_is_no_timedelta_is_refused(idle: Any):
    with pytest.raises(TypeError, match=r"^brief_idle_timeout: must be a timedelta"):
        Flow(brief_idle_timeout=idle)


# --- a service with a shorter idle time -----------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {"SESSION_AUTHORITY_IDLE_TIMEOUT": "90m"}
    with dev_server(tmp_path_factory.mktemp("dev"), settings) as server:
        yield server.address


@pytest.fixture(scope="module")
def visits(service: str) -> Iterator[Visits]:
    made = Visits(lambda: SessionAuthority(service, timeout=PATIENCE), Flow())
    yield made
    made.close()


@pytest.mark.parametrize(
    ("idle", "given"),
    [
        (None, 90 * MINUTE),
        (24 * HOUR, 90 * MINUTE),
        (HOUR, HOUR),
        (90 * MINUTE + timedelta(microseconds=1), 90 * MINUTE),
    ],
)
def test_a_longer_idle_time_is_cut_to_the_idle_time_of_the_service(
    visits: Visits, idle: timedelta | None, given: timedelta
):
    visit = visits.open("POST", {}, "127.0.0.1")
    visit.sign_in("ada", remember=False, idle_timeout=idle)
    session = visit.require()
    assert session.expire_time - session.sign_in_time == given


@pytest.mark.parametrize(
    ("brief", "given"),
    [(MINUTE, 2 * MINUTE), (119 * SECOND, 2 * MINUTE), (HOUR, HOUR), (24 * HOUR, 90 * MINUTE)],
)
def test_the_idle_time_of_the_settings_is_moved_into_the_limits_of_the_service(
    service: str, brief: timedelta, given: timedelta
):
    flow = Flow(brief_idle_timeout=brief)
    visits = Visits(lambda: SessionAuthority(service, timeout=PATIENCE), flow)
    visit = visits.open("POST", {}, "127.0.0.1")
    visit.sign_in("ada", remember=False)
    session = visit.require()
    assert session.expire_time - session.sign_in_time == given
    visits.close()


@pytest.mark.parametrize(
    ("brief", "given"), [(MINUTE, 2 * MINUTE), (HOUR, HOUR), (240 * HOUR, 168 * HOUR)]
)
async def test_the_fake_has_limits_for_the_idle_time_too(
    authority: FakeAuthority, make: Maker, brief: timedelta, given: timedelta
):
    async with browser_of(make(authority, Flow(brief_idle_timeout=brief))) as browser:
        assert (await browser.post("/sign-in-for?brief=1")).status_code == 200
        authority.pass_time(given - SECOND)
        assert (await browser.get("/me")).status_code == 200
        authority.pass_time(given)
        assert (await browser.get("/me")).status_code == 401


@pytest.mark.parametrize("idle", [MINUTE, timedelta(days=8)])
def test_the_limits_are_in_the_metadata_of_the_error(
    service: str, authority: FakeAuthority, idle: timedelta
):
    told = []
    for address in (service, authority.address):
        with SessionAuthority(address, timeout=PATIENCE) as client:
            with pytest.raises(InvalidRequest) as refused:
                client.issue_device("ada", idle_timeout=idle)
            told.append(refused.value.metadata)
    assert told == [
        {"min_seconds": "120", "max_seconds": "5400"},
        {"min_seconds": "120", "max_seconds": "604800"},
    ]


@pytest.mark.parametrize(
    ("user", "idle", "fields"),
    [
        ("ada", SECOND, ["idle_timeout"]),  # a time that is too short is not made longer
        ("", 24 * HOUR, ["user_id", "idle_timeout"]),
    ],
)
def test_a_sign_in_that_breaks_a_rule_is_refused(
    visits: Visits, user: str, idle: timedelta, fields: list[str]
):
    visit = visits.open("POST", {}, "127.0.0.1")
    with pytest.raises(InvalidRequest) as refused:
        visit.sign_in(user, remember=False, idle_timeout=idle)
    assert [broken.field for broken in refused.value.violations] == fields
