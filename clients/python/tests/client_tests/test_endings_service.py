"""The real service reports the ends of sessions to clients with a near cache."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from client_tests.harness import until
from client_tests.test_endings import PATIENCE, SHORT, Tasks, Threads
from session_authority_client import AsyncSessionAuthority, IssuedDevice, NearCache

_users = itertools.count()
KINDS = {"asyncio": Tasks, "threads": Threads}


@pytest.fixture(params=KINDS)
async def flavour(request: pytest.FixtureRequest, address: str) -> AsyncIterator[Any]:
    """Each flavour, with a near cache whose watch is live."""
    cache = NearCache()
    made: Any = KINDS[request.param](address, cache)
    await made.visit({"authorization": ["Bearer none"], "x-device-id": [""]})
    await until(lambda: cache.live)
    yield made
    await made.close()


@pytest.fixture
async def elsewhere(address: str) -> AsyncIterator[AsyncSessionAuthority]:
    """Another client of the same service."""
    async with AsyncSessionAuthority(address, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def user() -> str:
    return f"ends-{next(_users)}"


def headers_of(issued: IssuedDevice) -> dict[str, list[str]]:
    return {
        "authorization": [f"Bearer {issued.access_token}"],
        "x-device-id": [issued.device.device_id],
    }


async def opened(flavour: Any, issued: IssuedDevice) -> asyncio.Task[bool]:
    visit = await flavour.visit(headers_of(issued))
    assert not await flavour.ended(visit, SHORT)
    return asyncio.create_task(flavour.ended(visit))


async def test_a_revoked_device_ends_and_the_other_goes_on(
    flavour: Any, elsewhere: AsyncSessionAuthority, user: str
):
    laptop, phone = [await elsewhere.issue_device(user) for _ in range(2)]
    ending, going_on = await opened(flavour, laptop), await opened(flavour, phone)
    await elsewhere.revoke_all(user, except_device_id=phone.device.device_id)
    assert await ending
    assert not going_on.done()
    await elsewhere.revoke_device(user, phone.device.device_id)
    assert await going_on


async def test_a_device_that_is_evicted_ends(
    flavour: Any, elsewhere: AsyncSessionAuthority, user: str
):
    ending = await opened(flavour, await elsewhere.issue_device(user))
    for _ in range(2):  # the limit is two devices for each user
        await elsewhere.issue_device(user)
    assert await ending


async def test_a_new_sign_in_on_a_device_ends_its_previous_session(
    flavour: Any, elsewhere: AsyncSessionAuthority, user: str
):
    first = await elsewhere.issue_device(user)
    ending = await opened(flavour, first)
    second = await elsewhere.issue_device(user, device_id=first.device.device_id)
    assert await ending
    going_on = await opened(flavour, second)
    assert not going_on.done()
    await elsewhere.revoke_all(user)
    assert await going_on


async def test_a_session_ends_at_its_time_limit(
    flavour: Any, elsewhere: AsyncSessionAuthority, user: str
):
    issued = await elsewhere.issue_device(user, session_ttl=timedelta(seconds=2))
    assert await (await opened(flavour, issued))


async def test_a_renewed_session_goes_on_and_its_old_token_raises_no_alarm(
    flavour: Any, elsewhere: AsyncSessionAuthority, user: str
):
    issued = await elsewhere.issue_device(user)
    device_id = issued.device.device_id
    going_on = await opened(flavour, issued)

    renewed = None
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while renewed is None or not renewed.rotated:
            renewed = await elsewhere.renew_session(issued.access_token, device_id)
    assert renewed.access_token
    assert await elsewhere.validate_session(renewed.access_token, device_id)
    flavour.client.endings.sessions.doubt(user)
    assert not await flavour.ended(await flavour.visit(headers_of_token(renewed, device_id)), SHORT)
    assert not going_on.done()
    assert await elsewhere.validate_session(renewed.access_token, device_id), "no alarm"
    await elsewhere.revoke_all(user)
    assert await going_on


def headers_of_token(renewed: Any, device_id: str) -> dict[str, list[str]]:
    return {"authorization": [f"Bearer {renewed.access_token}"], "x-device-id": [device_id]}


async def test_a_sign_in_of_another_user_ends_the_session_of_the_user_before(
    flavour: Any, elsewhere: AsyncSessionAuthority, user: str
):
    """Makes the calls that the middleware makes when another user signs in on the same browser."""
    first = await elsewhere.issue_device(user)
    ending = await opened(flavour, first)
    await elsewhere.issue_device(f"{user}-other", device_id=first.device.device_id)
    await elsewhere.revoke_device(user, first.device.device_id, reason="sign_in_of_another_user")
    assert await ending
