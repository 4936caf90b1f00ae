"""The behaviour that all middleware shares, around an app of FastAPI, Flask, Django and no
framework.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import httpx
import pytest

from client_tests.middleware_harness import (
    APPS,
    BOTH,
    CACHEABLE,
    DEVICE,
    PATIENCE,
    TOKEN,
    Maker,
    RefusingService,
    StumblingService,
    attributes,
    browser_of,
    cookie_header,
    doubled,
    served_by,
    set_cookies,
)
from session_authority_client import EventType
from session_authority_client.cookies import Cookies, SameSite
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority

STRICT = {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"}


@pytest.fixture(params=APPS)
def make(request: pytest.FixtureRequest) -> Maker:
    return APPS[request.param]


@pytest.fixture
async def browser(make: Maker, authority: FakeAuthority) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_of(make(authority)) as browser:
        yield browser


# --- who the user is ------------------------------------------------------------------------------


async def test_a_stranger_has_no_session_and_gets_no_cookies(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    answer = await browser.get("/maybe")
    assert (answer.json(), set_cookies(answer)) == (None, {})
    denied = await browser.get("/me")
    assert (denied.status_code, denied.json()) == (401, {"error": "sign_in_required"})
    assert denied.headers["www-authenticate"] == "Bearer"
    assert denied.headers["cache-control"] == "no-store"
    assert set_cookies(denied) == {}
    assert authority.calls == {}  # without a token, the service is not called


async def test_a_sign_in_sets_both_cookies_and_the_next_request_is_signed_in(
    browser: httpx.AsyncClient,
):
    answer = await browser.post("/sign-in")
    issued, cookies = answer.json(), set_cookies(answer)
    assert cookies[DEVICE].startswith(f"{issued['device']}; ")
    assert attributes(cookies[DEVICE]) == STRICT | {"Max-Age=34560000"}
    assert cookies[TOKEN].startswith(f"{issued['token']}; ")
    assert attributes(cookies[TOKEN]) > STRICT
    (age,) = attributes(cookies[TOKEN]) - STRICT
    assert age.startswith("Max-Age=25919")
    assert answer.headers["cache-control"] == "no-store"
    again = await browser.get("/me")
    assert (again.json(), set_cookies(again)) == ("ada", {})


async def test_a_browser_stays_the_same_device(browser: httpx.AsyncClient):
    device = (await browser.post("/sign-in")).json()["device"]
    out = await browser.post("/sign-out")
    assert set(set_cookies(out)) == {TOKEN}
    assert "Max-Age=0" in attributes(set_cookies(out)[TOKEN])
    assert (await browser.get("/me")).status_code == 401
    assert (await browser.post("/sign-in")).json()["device"] == device


@pytest.mark.parametrize(
    ("proxies", "address"), [((), "198.51.100.9"), (("198.51.100.9",), "203.0.113.7")]
)
async def test_the_service_stores_the_address_and_the_user_agent_of_a_client(
    authority: FakeAuthority, make: Maker, proxies: tuple[str, ...], address: str
):
    app = make(authority, Flow(trusted_proxies=proxies))
    async with browser_of(app, peer="198.51.100.9") as browser:
        headers = {"user-agent": "Firefox", "x-forwarded-for": "203.0.113.7"}
        await browser.post("/sign-in", headers=headers)
    with authority.client(timeout=PATIENCE) as client:
        (device,) = client.devices("ada")
    assert device.last_client.user_agent == "Firefox"
    assert device.last_client.ip_address == address


async def test_an_app_may_choose_lax_cookies_and_redirects_to_the_sign_in_page(
    authority: FakeAuthority, make: Maker
):
    flow = Flow(Cookies(same_site=SameSite.LAX), sign_in_url="/sign-in")
    async with browser_of(make(authority, flow)) as browser:
        answer = await browser.get("/me")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/me")
        assert answer.content == b""
        assert (await browser.get("/me", headers={"x-device-id": ""})).status_code == 401
        token = set_cookies(await browser.post("/sign-in"))[TOKEN]
        assert "SameSite=Lax" in attributes(token)


async def test_a_script_is_answered_401_and_not_sent_to_a_page(
    authority: FakeAuthority, make: Maker
):
    async with browser_of(make(authority, Flow(sign_in_url="/sign-in"))) as browser:
        for headers, status in (
            ({"Accept": "application/json", "Sec-Fetch-Mode": "cors"}, 401),
            ({"Accept": "application/json"}, 401),
            ({"Sec-Fetch-Mode": "navigate"}, 303),
        ):
            assert (await browser.get("/me", headers=headers)).status_code == status


async def test_every_response_says_that_it_varies_with_the_credentials(browser: httpx.AsyncClient):
    """Without `Vary`, a cache on the way would give one user's page to another user, or to a
    stranger.
    """
    for path in ("/maybe", "/me", "/static"):
        answer = await browser.get(path)
        assert "Cookie" in answer.headers["vary"], path
    await browser.post("/sign-in")
    assert "Authorization" in (await browser.get("/me")).headers["vary"]


# --- renewals -------------------------------------------------------------------------------------


async def test_an_expired_token_is_renewed_before_the_app_runs(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    device = (await browser.post("/sign-in")).json()["device"]
    authority.expire_tokens()
    answer = await browser.get("/me")
    assert answer.json() == "ada"
    assert set(set_cookies(answer)) == BOTH
    assert set_cookies(answer)[DEVICE].startswith(device)
    assert set_cookies(await browser.get("/me")) == {}
    assert authority.rotations == 1


async def test_an_old_token_is_renewed_when_the_headers_are_sent(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    authority.age_tokens()
    answer = await browser.get("/static")
    assert set(set_cookies(answer)) == {"a", "b", *BOTH}
    # A cache must not keep a token that belongs to one browser.
    assert answer.headers.get_list("cache-control") == ["no-store"]
    answer = await browser.get("/static")
    assert set(set_cookies(answer)) == {"a", "b"}
    assert answer.headers["cache-control"] == CACHEABLE


async def test_a_sign_in_is_not_undone_by_a_renewal(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    authority.age_tokens()
    answer = await browser.post("/sign-in")
    assert set_cookies(answer)[TOKEN].startswith(answer.json()["token"])
    authority.age_tokens()
    out = set_cookies(await browser.post("/sign-out"))[TOKEN]
    assert out.partition(";")[0] in ("", '""')
    assert "Max-Age=0" in attributes(out)
    assert authority.rotations == 0


async def test_a_sign_in_of_another_user_ends_the_old_session_in_this_browser_only(
    authority: FakeAuthority, make: Maker
):
    app = make(authority)
    async with browser_of(app) as browser, browser_of(app) as phone:
        await phone.post("/sign-in", params={"user": "ada"})
        before = (await browser.post("/sign-in", params={"user": "ada"})).json()
        old = {"authorization": f"Bearer {before['token']}", "x-device-id": before["device"]}
        await browser.post("/sign-in", params={"user": "bob"})
        async with browser_of(app) as thief:
            assert (await thief.get("/me", headers=old)).status_code == 401
        users = ((await phone.get("/me")).json(), (await browser.get("/me")).json())
        assert users == ("ada", "bob")
        # An app keeps the tokens of several users itself.
        headers = authority.sign_in("carol")
        async with browser_of(app) as client:
            await client.post("/sign-in", params={"user": "dan"}, headers=headers)
            assert (await client.get("/me", headers=headers)).json() == "carol"


async def test_another_user_is_signed_in_even_if_the_old_session_can_not_be_ended(
    make: Maker, caplog: pytest.LogCaptureFixture
):
    with served_by(RefusingService("revoke_device")) as authority:
        async with browser_of(make(authority)) as browser:
            await browser.post("/sign-in", params={"user": "ada"})
            assert (await browser.post("/sign-in", params={"user": "bob"})).status_code == 200
            assert (await browser.get("/me")).json() == "bob"
    assert "is not signed out: PERMISSION_DENIED" in caplog.text


# --- requests that are denied ---------------------------------------------------------------------


async def test_a_replay_deletes_the_cookies(authority: FakeAuthority, browser: httpx.AsyncClient):
    await browser.post("/sign-in")
    authority.replay_tokens()
    answer = await browser.get("/me")
    assert (answer.status_code, answer.json()) == (401, {"error": "sign_in_required"})
    assert set(set_cookies(answer)) == BOTH
    for line in set_cookies(answer).values():
        assert attributes(line) >= STRICT | {"Max-Age=0"}
    assert not browser.cookies


async def test_a_replay_that_a_renewal_detects_deletes_the_cookies_too(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    authority.expire_tokens()
    authority.replay_tokens()
    answer = await browser.get("/maybe")
    assert (answer.json(), len(set_cookies(answer))) == (None, 2)


@pytest.fixture
def forgiving() -> Iterator[FakeAuthority]:
    """A service that forgives a superseded token, as of a queued upload. Only a renewal raises the
    alarm.
    """
    with FakeAuthority(replay_alarm="renewed") as authority:
        yield authority


async def test_a_superseded_token_of_a_browser_leads_to_one_renewal(
    forgiving: FakeAuthority, make: Maker
):
    async with browser_of(make(forgiving)) as browser:
        await browser.post("/sign-in")
        forgiving.replay_tokens()
        answer = await browser.get("/me")
    assert (answer.status_code, set(set_cookies(answer))) == (401, BOTH)
    assert (forgiving.calls["ValidateSession"], forgiving.calls["RenewSession"]) == (1, 1)


def test_a_forgiven_token_causes_one_event_an_hour(forgiving: FakeAuthority):
    with forgiving.client() as client:
        issued = client.issue_device("ada")
        [start] = itertools.islice(client.watch_events(), 1)
        forgiving.replay_tokens()
        for _ in range(3):
            client.validate_session(issued.access_token, issued.device.device_id)
        forgiving.pass_time(timedelta(hours=1))
        forgiving.replay_tokens()
        again = client.issue_device("ada")
        forgiving.replay_tokens()
        client.validate_session(again.access_token, again.device.device_id)
        told = itertools.chain.from_iterable(
            batch.events for batch in client.watch_events(cursor=start.cursor)
        )
        kinds = [event.type for event in itertools.islice(told, 3)]
    superseded = EventType.SUPERSEDED_TOKEN_PRESENTED
    assert kinds == [superseded, EventType.DEVICE_SIGNED_IN, superseded]


async def test_a_superseded_token_of_an_app_is_answered_token_expired(
    forgiving: FakeAuthority, make: Maker
):
    headers = forgiving.sign_in("ada")
    forgiving.replay_tokens()
    async with browser_of(make(forgiving)) as app:
        answer = await app.get("/me", headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"error": "token_expired"})
    assert forgiving.calls["RenewSession"] == 0


async def test_an_old_request_does_not_delete_the_cookies_of_a_new_sign_in(
    browser: httpx.AsyncClient,
):
    old = (await browser.post("/sign-in")).json()
    await browser.post("/sign-in")
    answer = await browser.get("/me", headers=cookie_header(old))
    assert (answer.status_code, set_cookies(answer)) == (401, {})
    assert (await browser.get("/me")).json() == "ada"


async def test_a_lost_device_cookie_raises_no_alarm(browser: httpx.AsyncClient):
    token = (await browser.post("/sign-in")).json()["token"]
    answer = await browser.get("/me", headers={"cookie": f"{TOKEN}={token}"})
    assert (answer.status_code, set_cookies(answer)) == (401, {})
    assert (await browser.get("/me")).json() == "ada"


async def test_forms_from_other_sites_are_refused(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    before = dict(authority.calls)
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    for path in ("/sign-in", "/sign-out", "/sign-out-everywhere"):
        answer = await browser.post(path, headers=foreign)
        assert (answer.status_code, answer.json()) == (403, {"error": "cross_origin_request"})
        assert set_cookies(answer) == {}
    assert dict(authority.calls) == before
    answer = await browser.get("/me", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.json() == "ada"


async def test_a_cookie_of_the_app_with_the_name_of_our_cookie_is_left_out(
    authority: FakeAuthority, make: Maker, caplog: pytest.LogCaptureFixture
):
    flow = Flow(Cookies(token="a", device="b", insecure=True))
    async with browser_of(make(authority, flow)) as browser:
        browser.base_url = httpx.URL("http://localhost")
        assert set_cookies(await browser.get("/static")) == {}
        assert "named a, which is the Session Authority's" in caplog.text
        await browser.post("/sign-in")
        await browser.get("/static")
        assert (await browser.get("/me")).json() == "ada"


@pytest.mark.parametrize("name", APPS)
async def test_the_inner_of_two_middlewares_sets_the_cookies(
    authority: FakeAuthority, name: str, caplog: pytest.LogCaptureFixture
):
    """For example, an app and a part of it that another team wrote both have the middleware."""
    async with browser_of(doubled(name, authority)) as browser:
        first = (await browser.post("/sign-in")).json()
        assert browser.cookies[TOKEN] == first["token"]
        authority.expire_tokens()  # the outer visit renews ada's token before the sign-in
        answer = await browser.post("/sign-in", params={"user": "bob"})
        assert browser.cookies[TOKEN] == answer.json()["token"]
        assert len(answer.headers.get_list("set-cookie")) == len(set_cookies(answer))
        assert (await browser.get("/me")).json() == "bob"
    assert [each for each in caplog.records if each.name == "session_authority_client"] == []


# --- when the service is unavailable --------------------------------------------------------------


async def test_the_middleware_fails_closed_and_recovers(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    with authority.unavailable():
        # an answer that nobody is signed in would be false
        for path in ("/me", "/maybe", "/devices"):
            answer = await browser.get(path, headers={"accept": "application/json"})
            assert (answer.status_code, answer.json()) == (503, {"error": "unavailable"})
            assert (answer.headers["retry-after"], set_cookies(answer)) == ("1", {})
            page = await browser.get(path, headers={"accept": "text/html"})
            assert page.status_code == 503
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert (page.headers["retry-after"], set_cookies(page)) == ("1", {})
        for path in ("/sign-in", "/sign-out", "/sign-out-everywhere", "/renew"):
            assert (await browser.post(path)).status_code == 503
        assert (await browser.get("/static")).status_code == 200  # this page needs no session
    assert (await browser.get("/me")).json() == "ada"


async def test_the_middleware_answers_within_its_timeout(authority: FakeAuthority, make: Maker):
    async with browser_of(make(authority, timeout=timedelta(milliseconds=100))) as browser:
        with authority.client(timeout=PATIENCE) as client:
            issued = client.issue_device("ada")
        browser.cookies.set(TOKEN, issued.access_token)
        browser.cookies.set(DEVICE, issued.device.device_id)
        with authority._service.changed:  # the service answers no call now
            async with asyncio.timeout(PATIENCE.total_seconds()):
                assert (await browser.get("/me")).status_code == 503


async def test_an_outage_during_a_renewal_is_no_sign_out(make: Maker):
    service = StumblingService()
    with served_by(service) as authority:
        async with browser_of(make(authority)) as browser:
            await browser.post("/sign-in")
            authority.expire_tokens()
            service.renewals_away = True
            answer = await browser.get("/me")
            assert (answer.status_code, set_cookies(answer)) == (503, {})
            service.renewals_away = False
            assert (await browser.get("/me")).json() == "ada"


async def test_a_service_that_refuses_this_app_is_treated_as_unavailable(
    make: Maker, caplog: pytest.LogCaptureFixture
):
    with served_by(RefusingService("validate_session")) as authority:
        async with browser_of(make(authority)) as browser:
            await browser.post("/sign-in")
            answer = await browser.get("/me")
            assert (answer.status_code, set_cookies(answer)) == (503, {})
    assert "refuses to say who is signed in: PERMISSION_DENIED" in caplog.text


@pytest.mark.parametrize("path", ["/me", "/maybe", "/devices"])
async def test_an_outage_is_logged_as_one_line_with_its_reason(
    authority: FakeAuthority,
    browser: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    path: str,
):
    await browser.post("/sign-in")
    assert outages(caplog) == []
    with authority.unavailable():
        for _ in range(5):
            assert (await browser.get(path)).status_code == 503
            assert (await browser.post("/sign-in")).status_code == 503
    (line,) = outages(caplog)
    assert "STORE_UNAVAILABLE" in line.getMessage()
    assert line.levelname == "ERROR"


async def test_a_refused_connection_to_the_service_is_named_in_the_log(
    authority: FakeAuthority, browser: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
):
    authority.stop()
    for _ in range(3):
        assert (await browser.post("/sign-in")).status_code == 503
    (line,) = outages(caplog)
    assert "Connection refused" in line.getMessage()


def outages(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [line for line in caplog.records if "gives no answer" in line.getMessage()]


# --- insecure cookies -----------------------------------------------------------------------------

INSECURE = Flow(Cookies(insecure=True), sign_in_url="/sign-in")


async def test_insecure_cookies_at_another_host_are_answered_400_with_advice(
    authority: FakeAuthority, make: Maker, caplog: pytest.LogCaptureFixture
):
    async with browser_of(make(authority, INSECURE)) as browser:
        browser.base_url = httpx.URL("http://192.0.2.7:8000")
        for _ in range(3):
            answer = await browser.get("/maybe", headers={"Accept": "application/json"})
            assert (answer.status_code, answer.json()["error"]) == (400, "insecure_cookies")
            assert "http://localhost" in answer.json()["message"]
            page = await browser.get("/maybe", headers={"Sec-Fetch-Mode": "navigate"})
            assert page.status_code == 400
            assert '<a href="http://localhost/">' in page.text
    (line,) = [line for line in caplog.records if "insecure" in line.getMessage()]
    assert "'192.0.2.7:8000'" in line.getMessage()
    assert authority.calls == {}


async def test_a_stale_cookie_of_another_path_does_not_lock_a_user_out(
    authority: FakeAuthority, make: Maker
):
    async with browser_of(make(authority, INSECURE)) as browser:
        browser.base_url = httpx.URL("http://localhost")
        stale = {"Cookie": "session=stale; device=stale"}
        assert (await browser.get("/me", headers=stale)).status_code == 303
        issued = (await browser.post("/sign-in", headers=stale)).json()
        both = f"{stale['Cookie']}; session={issued['token']}; device={issued['device']}"
        assert (await browser.get("/me", headers={"Cookie": both})).json() == "ada"
        # The next sign-in is on the same device.
        again = (await browser.post("/sign-in", headers={"Cookie": both})).json()
        assert again["device"] == issued["device"]


# --- my devices -----------------------------------------------------------------------------------


async def test_my_devices(authority: FakeAuthority, make: Maker):
    app = make(authority)
    async with browser_of(app) as browser, browser_of(app) as other, browser_of(app) as third:
        mine, theirs = [(await one.post("/sign-in")).json()["device"] for one in (browser, other)]
        await third.post("/sign-in")
        listed = (await browser.get("/devices")).json()
        assert [device["current"] for device in listed] == [True, False, False]
        assert listed[0]["id"] == mine
        answer = await browser.post("/sign-out", params={"device": theirs})
        assert set_cookies(answer) == {}
        statuses = [(await one.get("/me")).status_code for one in (browser, other, third)]
        assert statuses == [200, 401, 200]
        answer = await browser.post("/sign-out", params={"device": "nonsense"})
        assert "device_id: must be a UUID" in answer.json()
        assert set_cookies(answer) == {}
        assert (await browser.post("/sign-out-everywhere")).json() == 1
        assert [(await one.get("/me")).status_code for one in (browser, third)] == [200, 401]
        answer = await browser.post("/sign-out-everywhere", params={"also_here": "true"})
        assert (answer.json(), set(set_cookies(answer))) == (1, {TOKEN})
        assert (await browser.get("/devices")).status_code == 401


async def test_a_user_renames_own_devices_only(authority: FakeAuthority, make: Maker):
    app = make(authority)
    async with browser_of(app) as browser, browser_of(app) as other:
        mine = (await browser.post("/sign-in")).json()["device"]
        theirs = (await other.post("/sign-in", params={"user": "eve"})).json()["device"]
        for device, name, told in (
            (mine, " My laptop ", "My laptop"),
            (theirs, "x", "DeviceNotFound"),
            (mine, "x" * 101, "InvalidRequest"),
        ):
            answer = await browser.post("/rename", params={"device": device, "name": name})
            assert answer.json() == told
        await browser.post("/sign-out")
        answer = await browser.post("/rename", params={"device": mine, "name": "y"})
        assert answer.status_code == 401


async def test_new_claims_of_a_user_apply_at_once_and_on_all_devices(
    authority: FakeAuthority, make: Maker
):
    app = make(authority)
    async with browser_of(app) as browser, browser_of(app) as other:
        assert (await browser.post("/claims", params={"email": "x"})).status_code == 401
        await browser.post("/sign-in")
        await other.post("/sign-in")
        answer = await browser.post("/claims", params={"email": "new@example.org"})
        assert answer.json() == {"email": "new@example.org"}
        for each, renewing in ((browser, answer), (other, await other.post("/claims"))):
            assert set(set_cookies(renewing)) == {TOKEN, DEVICE}
            assert (await each.post("/claims")).json() == {"email": "new@example.org"}
            assert set_cookies(await each.post("/claims")) == {}
    assert authority.rotations == 0


async def test_a_device_id_in_another_spelling_means_this_device_too(browser: httpx.AsyncClient):
    mine = (await browser.post("/sign-in")).json()["device"]
    answer = await browser.post("/sign-out", params={"device": f"{{{mine.upper()}}}"})
    assert set(set_cookies(answer)) == {TOKEN}


async def test_a_user_can_not_sign_out_another_user(authority: FakeAuthority, make: Maker):
    app = make(authority)
    async with browser_of(app) as browser, browser_of(app) as other:
        theirs = (await other.post("/sign-in", params={"user": "eve"})).json()["device"]
        await browser.post("/sign-in")
        await browser.post("/sign-out", params={"device": theirs})
        assert (await other.get("/me")).json() == "eve"


# --- apps with bearer tokens ----------------------------------------------------------------------


async def test_an_app_keeps_its_token_itself_and_gets_no_cookies(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    signed_in = await browser.post("/sign-in", headers={"x-device-id": ""})
    assert set_cookies(signed_in) == {}
    headers = {
        "authorization": f"Bearer {signed_in.json()['token']}",
        "x-device-id": signed_in.json()["device"],
    }
    assert (await browser.get("/me", headers=headers)).json() == "ada"
    assert (await browser.post("/renew", headers=headers)).json() == {"token": None}
    authority.age_tokens()
    assert (await browser.get("/me", headers=headers)).json() == "ada"
    assert authority.rotations == 0  # the middleware has no way to give the app a new token
    authority.expire_tokens()
    answer = await browser.get("/me", headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"error": "token_expired"})
    assert set_cookies(answer) == {}
    renewed = await browser.post("/renew", headers=headers)
    assert set_cookies(renewed) == {}
    headers["authorization"] = f"Bearer {renewed.json()['token']}"
    assert (await browser.get("/me", headers=headers)).json() == "ada"
    assert (await browser.post("/sign-out", headers=headers)).status_code == 200
    assert (await browser.post("/renew", headers=headers)).status_code == 401
    assert (await browser.post("/renew", headers={"x-device-id": ""})).status_code == 401


@pytest.mark.parametrize("path", ["/sign-out", "/sign-out-everywhere?also_here=true"])
async def test_an_app_can_sign_out_with_an_expired_token(
    authority: FakeAuthority, browser: httpx.AsyncClient, path: str
):
    """The session outlives its token. If it were not ended here, it could be renewed for weeks."""
    issued = (await browser.post("/sign-in", headers={"X-Device-Id": ""})).json()
    shown = {"Authorization": f"Bearer {issued['token']}", "X-Device-Id": issued["device"]}
    authority.expire_tokens()
    assert (await browser.get("/me", headers=shown)).json() == {"error": "token_expired"}
    assert (await browser.post(path, headers=shown)).status_code == 200
    assert (await browser.post("/renew", headers=shown)).status_code == 401
