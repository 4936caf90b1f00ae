"""Step-up with the real service: a new sign-in replaces the session, and raises no alarm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from client_tests.middleware_harness import (
    APPS,
    BOTH,
    DEVICE,
    PATIENCE,
    TOKEN,
    browser_of,
    cookie_header,
    set_cookies,
)
from session_authority_client import (
    AsyncSessionAuthority,
    EventType,
    InvalidRequest,
    SessionAuthority,
    SessionStatus,
)
from session_authority_client.flow import Flow
from tests.support.dev import dev_server

ALARMS = (EventType.SESSION_REPLAYED, EventType.ENDED_TOKEN_PRESENTED, EventType.ALL_REVOKED)
EVENTS = (*ALARMS, EventType.DEVICE_REVOKED)
LOCATION = "/sign-in?next=/strong&reason=step_up&auth_methods=otp%20hwk"


@dataclass(frozen=True)
class Real:
    """A service with its defaults, and the methods that the apps of the harness call."""

    address: str

    def client(self, *, timeout: timedelta = PATIENCE) -> SessionAuthority:
        return SessionAuthority(self.address, timeout=timeout)

    def async_client(self, *, timeout: timedelta = PATIENCE) -> AsyncSessionAuthority:
        return AsyncSessionAuthority(self.address, timeout=timeout)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    with dev_server(tmp_path_factory.mktemp("dev") / "data") as server:
        yield Real(server.address)


@pytest.fixture(params=["fastapi", "flask", "django"])
async def browser(request: pytest.FixtureRequest, real: Real) -> AsyncIterator[httpx.AsyncClient]:
    app: Any = APPS[request.param]
    async with browser_of(app(real, Flow(sign_in_url="/sign-in"))) as browser:
        yield browser


def events_until_the_end(client: SessionAuthority, start: datetime, user: str) -> list[EventType]:
    """Revokes the session on the user's one device. Returns the user's alarms, and that end."""
    (device,) = client.devices(user, include_signed_out=True)
    assert client.revoke_device(user, device.device_id)
    found: list[EventType] = []
    for batch in client.watch_events(since=start, types=EVENTS, user_ids=[user]):
        found += [event.type for event in batch.events]
        if EventType.DEVICE_REVOKED in found:
            break
    return found


async def test_a_step_up_replaces_the_session_while_other_tabs_send_the_old_token(
    real: Real, browser: httpx.AsyncClient, request: pytest.FixtureRequest
):
    user, start = f"ada-{request.node.callspec.id}", datetime.now(UTC)
    await browser.post("/sign-in", params={"user": user})
    device, old = browser.cookies[DEVICE], browser.cookies[TOKEN]
    assert (await browser.get("/strong")).headers["location"] == LOCATION
    tab = cookie_header({"token": old, "device": device})
    async with httpx.AsyncClient(transport=browser._transport, base_url=browser.base_url) as tabs:
        signed_in, *meanwhile = await asyncio.gather(
            browser.post(LOCATION, params={"user": user, "methods": "pwd otp"}),
            *(tabs.get("/maybe", headers=tab) for _ in range(8)),
        )
        assert set(set_cookies(signed_in)) == BOTH
        assert {answer.status_code for answer in meanwhile} == {200}
        late = [await tabs.get("/me", headers=tab) for _ in range(3)]
    # Later requests of a tab are refused, and remove no cookie of the new session.
    assert [(answer.status_code, set_cookies(answer)) for answer in late] == [(401, {})] * 3
    assert all(set_cookies(answer) == {} for answer in meanwhile)
    assert (await browser.get("/strong")).json() == user
    with real.client() as client:
        (listed,) = client.devices(user, include_signed_out=True)
        assert (listed.device_id, listed.signed_in) == (device, True)
        assert client.validate_session(old, device).status is SessionStatus.SUPERSEDED
        assert client.renew_session(old, device).status is SessionStatus.SUPERSEDED
        new = client.validate_session(browser.cookies[TOKEN], device).session
        assert new is not None
        assert (tuple(new.auth_methods), new.generation) == (("pwd", "otp"), 1)
        events = await asyncio.to_thread(events_until_the_end, client, start, user)
    assert events == [EventType.DEVICE_REVOKED]


async def test_a_step_up_that_the_user_gives_up_keeps_the_session(
    browser: httpx.AsyncClient, request: pytest.FixtureRequest
):
    user = f"grace-{request.node.callspec.id}"
    await browser.post("/sign-in", params={"user": user})
    kept = dict(browser.cookies)
    for _ in range(2):
        refused = await browser.get("/strong")
        assert (refused.status_code, set_cookies(refused)) == (303, {})
    with suppress(InvalidRequest):  # a sign-in that fails: a server would answer it with 500
        await browser.post(LOCATION, params={"user": user, "methods": "\0"})
    assert (await browser.get("/me")).json() == user
    assert dict(browser.cookies) == kept


async def test_after_two_step_ups_the_first_token_raises_no_alarm(
    real: Real, browser: httpx.AsyncClient, request: pytest.FixtureRequest
):
    """The service remembers the one session that was replaced last. An older one has ended."""
    user = f"alan-{request.node.callspec.id}"
    tokens = []
    for methods in ("pwd", "pwd otp", "pwd hwk"):
        await browser.post("/sign-in", params={"user": user, "methods": methods})
        tokens.append(browser.cookies[TOKEN])
    device = browser.cookies[DEVICE]
    with real.client() as client:
        found = [client.validate_session(token, device).status for token in tokens]
        assert len(list(client.devices(user, include_signed_out=True))) == 1
    wanted = [SessionStatus.SESSION_ENDED, SessionStatus.SUPERSEDED, SessionStatus.ACTIVE]
    assert found == wanted
    assert (await browser.get("/strong")).json() == user
