"""`visit.ended()` of both flavours, with the fake of the service: what ends a session, what does
not, and how many calls the waiting costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from client_tests.harness import until
from session_authority_client import (
    AsyncSessionAuthority,
    NearCache,
    SessionAuthority,
    Unavailable,
)
from session_authority_client._async.visits import AsyncVisits
from session_authority_client._sync.visits import Visits
from session_authority_client.flow import Flow, SignInRequired
from session_authority_client.testing import FakeAuthority

PATIENCE = timedelta(seconds=20)
SHORT = timedelta(milliseconds=50)
HOUR = timedelta(hours=1)


class Threads:
    """The flavour for threads, with the same methods as `Tasks`."""

    def __init__(self, address: str, cache: NearCache | None) -> None:
        self.client = SessionAuthority(address, timeout=PATIENCE, cache=cache)
        self._visits = Visits(self.client, Flow())

    async def visit(self, headers: dict[str, list[str]]) -> Any:
        return await asyncio.to_thread(self._visits.open, "GET", headers, "")

    async def ended(self, visit: Any, within: timedelta | None = PATIENCE) -> bool:
        return await asyncio.to_thread(visit.ended, within)

    async def close(self) -> None:
        await asyncio.to_thread(self.client.close)


class Tasks:
    """The flavour for asyncio."""

    def __init__(self, address: str, cache: NearCache | None) -> None:
        self.client = AsyncSessionAuthority(address, timeout=PATIENCE, cache=cache)
        self._visits = AsyncVisits(self.client, Flow())

    async def visit(self, headers: dict[str, list[str]]) -> Any:
        return await self._visits.open("GET", headers, "")

    async def ended(self, visit: Any, within: timedelta | None = PATIENCE) -> bool:
        return bool(await visit.ended(within))

    async def close(self) -> None:
        await self.client.close()


Opened = Callable[..., Any]


@asynccontextmanager
async def _made(kind: Any, address: str, cache: NearCache | None) -> AsyncIterator[Any]:
    flavour = kind(address, cache)
    try:
        yield flavour
    finally:
        await flavour.close()


@pytest.fixture(params=[Tasks, Threads], ids=["asyncio", "threads"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[False, True], ids=["polls", "cache"])
async def flavour(
    request: pytest.FixtureRequest, kind: Any, authority: FakeAuthority
) -> AsyncIterator[Any]:
    """Each flavour, without and with a near cache whose watch is live."""
    cache = NearCache() if request.param else None
    async with _made(kind, authority.address, cache) as flavour:
        if cache is not None:
            await flavour.visit(headers_of(authority.sign_in("starter")))
            await until(lambda: cache.live)
        yield flavour


def headers_of(given: dict[str, str]) -> dict[str, list[str]]:
    return {name.lower(): [value] for name, value in given.items()}


async def hurry(flavour: Any) -> None:
    """Makes the next poll for Ada happen now."""
    flavour.client.endings.sessions.doubt("ada")


def end_by_sign_out(authority: FakeAuthority, _: dict[str, str]) -> None:
    authority.sign_out("ada")


def end_by_revocation(authority: FakeAuthority, given: dict[str, str]) -> None:
    with authority.client(timeout=PATIENCE) as client:
        client.revoke_device("ada", given["X-Device-Id"])


def end_by_another_sign_in(authority: FakeAuthority, given: dict[str, str]) -> None:
    with authority.client(timeout=PATIENCE) as client:
        client.issue_device("ada", device_id=given["X-Device-Id"])


def end_by_a_replay(authority: FakeAuthority, given: dict[str, str]) -> None:
    authority.replay_tokens()
    with authority.client(timeout=PATIENCE) as client:
        token = given["Authorization"].removeprefix("Bearer ")
        assert not client.validate_session(token, given["X-Device-Id"])


ENDS = [end_by_sign_out, end_by_revocation, end_by_another_sign_in, end_by_a_replay]


@pytest.mark.parametrize("end", ENDS)
async def test_a_visit_is_notified_of_the_end_of_its_session(
    flavour: Any, authority: FakeAuthority, end: Any
):
    given = authority.sign_in("ada")
    visit = await flavour.visit(headers_of(given))
    waiting = asyncio.create_task(flavour.ended(visit))
    called = asyncio.Event()
    loop = asyncio.get_running_loop()
    visit.on_ended(lambda: loop.call_soon_threadsafe(called.set))
    assert not await flavour.ended(visit, SHORT)
    await asyncio.to_thread(end, authority, given)
    if flavour.client._cache is None:
        await hurry(flavour)
    assert await waiting
    await asyncio.wait_for(called.wait(), PATIENCE.total_seconds())
    assert await flavour.ended(visit), "the session has also ended for a caller that comes later"


async def test_the_service_decides_when_a_session_ends_by_time(kind: Any):
    with FakeAuthority() as authority:
        async with _made(kind, authority.address, None) as flavour:
            given = authority.sign_in("ada")
            visit = await flavour.visit(headers_of(given))
            waiting = asyncio.create_task(flavour.ended(visit))
            authority.pass_time(timedelta(days=40))
            await hurry(flavour)
            assert await waiting


async def test_a_superseded_or_expired_token_ends_no_session(
    flavour: Any, authority: FakeAuthority
):
    given = authority.sign_in("ada")
    visit = await flavour.visit(headers_of(given))
    waiting = asyncio.create_task(flavour.ended(visit))
    assert not await flavour.ended(visit, SHORT)
    with authority.client(timeout=PATIENCE) as client:
        token = given["Authorization"].removeprefix("Bearer ")
        authority.age_tokens()
        renewed = client.renew_session(token, given["X-Device-Id"])
        assert renewed.rotated
        authority.expire_tokens()
    checks = authority.calls["CheckSessions"]
    await hurry(flavour)
    await until(lambda: authority.calls["CheckSessions"] > checks)
    assert not await flavour.ended(visit, SHORT)
    assert authority.calls["ValidateSession"] <= 2, "the old token was presented again"
    authority.sign_out("ada")
    await hurry(flavour)
    assert await waiting


async def test_an_outage_ends_no_session_and_an_end_after_the_outage_is_found(
    flavour: Any, authority: FakeAuthority
):
    visit = await flavour.visit(headers_of(authority.sign_in("ada")))
    waiting = asyncio.create_task(flavour.ended(visit))
    assert not await flavour.ended(visit, SHORT)
    authority.stop()
    await hurry(flavour)
    assert not await flavour.ended(visit, timedelta(seconds=1))
    authority.start()
    authority.sign_out("ada")
    await hurry(flavour)
    assert await waiting


async def test_events_of_other_users_and_other_devices_end_no_session(
    flavour: Any, authority: FakeAuthority
):
    visit = await flavour.visit(headers_of(authority.sign_in("ada")))
    assert not await flavour.ended(visit, SHORT)
    authority.sign_in("ada")
    authority.sign_in("bob")
    authority.sign_out("bob")
    assert not await flavour.ended(visit, SHORT)


async def test_with_a_cache_an_open_connection_costs_no_call(kind: Any, authority: FakeAuthority):
    cache = NearCache()
    async with _made(kind, authority.address, cache) as flavour:
        given = headers_of(authority.sign_in("ada"))

        async def cached() -> bool:
            await flavour.visit(given)
            return cache.stats().hits > 0

        while not await cached():
            pass
        visits = [await flavour.visit(given) for _ in range(50)]
        for visit in visits:
            visit.on_ended(lambda: None)
        assert not await flavour.ended(visits[0], SHORT)
        assert authority.calls["CheckSessions"] == 0


async def test_connections_of_one_session_share_one_poll(kind: Any, authority: FakeAuthority):
    async with _made(kind, authority.address, None) as flavour:
        given = headers_of(authority.sign_in("ada"))
        for visit in [await flavour.visit(given) for _ in range(50)]:
            visit.on_ended(lambda: None)
        await until(lambda: authority.calls["CheckSessions"] > 0)
        assert not await flavour.ended(visit, SHORT)
        assert authority.calls["CheckSessions"] == 1


async def test_a_visit_without_a_session_has_no_end_to_wait_for(
    flavour: Any, authority: FakeAuthority
):
    visit = await flavour.visit({})
    with pytest.raises(SignInRequired):
        await flavour.ended(visit)


async def test_closing_a_client_calls_no_callback(kind: Any, authority: FakeAuthority):
    async with _made(kind, authority.address, None) as flavour:
        visit = await flavour.visit(headers_of(authority.sign_in("ada")))
        told: list[int] = []
        visit.on_ended(lambda: told.append(1))
    assert told == []


@pytest.mark.parametrize("within", [None, PATIENCE])
async def test_closing_a_client_wakes_all_callers_that_wait(
    flavour: Any, authority: FakeAuthority, within: timedelta | None
):
    visit = await flavour.visit(headers_of(authority.sign_in("ada")))
    told: list[int] = []
    visit.on_ended(lambda: told.append(1))
    waiting = [asyncio.create_task(flavour.ended(visit, within)) for _ in range(3)]
    await until(lambda: len(flavour.client.endings._waiting) == 3)
    await flavour.close()
    async with asyncio.timeout(PATIENCE.total_seconds() / 2):
        for ended in waiting:
            with pytest.raises(Unavailable, match="the client is closed"):
                await ended
    assert told == []


async def test_waiting_on_a_closed_client_fails_at_once(flavour: Any, authority: FakeAuthority):
    visit = await flavour.visit(headers_of(authority.sign_in("ada")))
    await flavour.close()
    with pytest.raises(Unavailable, match="the client is closed"):
        await flavour.ended(visit)
    with pytest.raises(Unavailable, match="the client is closed"):
        visit.on_ended(lambda: None)
    visit.hang_up_at_end(lambda: None)
    assert visit.require().user_id == "ada"


async def test_a_stopped_callback_is_not_called(flavour: Any, authority: FakeAuthority):
    visit = await flavour.visit(headers_of(authority.sign_in("ada")))
    told: list[str] = []
    visit.on_ended(lambda: told.append("stopped"))()
    visit.on_ended(lambda: told.append("called"))
    authority.sign_out("ada")
    await hurry(flavour)
    assert await flavour.ended(visit)
    assert told == ["called"]
