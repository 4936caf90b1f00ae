"""One real service, and clients of several languages with caches: a revocation is a denial in all
clients, with a watch that works, is cut, stalls and resumes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from session_authority.v1 import session_authority_pb2 as pb
from tests.polyglot.relay import Relay, relay_to
from tests.polyglot.revocations import (
    BOUND_MS,
    Denied,
    Watchers,
    beyond_the_bound,
    watchers,
)
from tests.polyglot.testee import Process, Testee
from tests.polyglot.testees import CLIENTS, recipes_of, wanted_recipes
from tests.support.dev import dev_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
USERS = 20


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dev_server(tmp_path_factory.mktemp("dev") / "data") as dev:
        yield dev.address


@pytest.fixture
def relay(service: str) -> Iterator[Relay]:
    with relay_to(service) as running:
        yield running


@pytest.fixture
async def clients(
    service: str, relay: Relay, process_of: Callable[[str], Process]
) -> AsyncIterator[Watchers]:
    """One client with a cache of each testee, at the same time. The Python testees are always
    there.
    """
    names = {recipe.name for recipe in recipes_of(CLIENTS / "python")} | wanted_recipes().keys()
    async with AsyncExitStack() as stack:
        testees = [
            await stack.enter_async_context(Testee(process_of(name))) for name in sorted(names)
        ]
        yield await stack.enter_async_context(watchers(testees, service, relay.address))


def judge(denials: list[Denied], clients: Watchers) -> None:
    """Checks that all clients denied, and that none answered "active" beyond the bound."""
    assert {denied.testee for denied in denials} == {testee.name for testee in clients.testees}
    assert beyond_the_bound(denials) == []


async def test_each_revocation_is_a_denial_in_every_client(clients: Watchers):
    before = await clients.hits()
    for _ in range(USERS):
        user = await clients.sign_in()
        await clients.warm(user)
        judge(await clients.revoke(user), clients)
    for earlier, now in zip(before, await clients.hits(), strict=True):
        assert now >= earlier + 2 * USERS, "the caches answered"


async def test_with_the_watches_cut_no_client_says_active_beyond_the_bound(
    clients: Watchers, relay: Relay
):
    user, other = await clients.sign_in(), await clients.sign_in()
    await clients.warm(user)
    relay.cut()
    await eventually(lambda: relay.watching == 0, "the watches to end")
    judge(await clients.revoke(user), clients)
    relay.resume()
    await clients.warm(other)


async def test_with_the_watches_stalled_no_client_says_active_beyond_the_bound(
    clients: Watchers, relay: Relay
):
    user, other = await clients.sign_in(), await clients.sign_in()
    await clients.warm(user)
    judge(await clients.revoke(user, before=relay.stall), clients)
    relay.resume()
    await clients.warm(other)


async def test_resumed_watches_send_the_events_that_were_missed(clients: Watchers, relay: Relay):
    user, other = await clients.sign_in(), await clients.sign_in()
    await clients.warm(user)
    judge(await clients.revoke(user, before=relay.stall, after=relay.resume), clients)
    await clients.warm(other)


def test_an_answer_beyond_the_bound_is_noticed():
    at = 1_000_000.0
    good = Denied("good", at, at + BOUND_MS, at + BOUND_MS + 9000, 9)
    bad = Denied("bad", at, at + BOUND_MS + 1, at + BOUND_MS + 2, 9)
    assert beyond_the_bound([good, bad]) == [bad]


def test_the_relay_knows_the_streams_of_the_contract():
    methods = pb.DESCRIPTOR.services_by_name["SessionAuthorityService"].methods
    assert [method.name for method in methods if method.server_streaming] == ["WatchEvents"]
