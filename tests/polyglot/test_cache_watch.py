"""How stale an answer of a near cache can be while its watch is cut, stalls, is late or resumes."""

from __future__ import annotations

import time
from functools import partial

import grpc
import pytest

from client_tests.service_harness import Service
from session_authority_client.testing import FakeAuthority
from tests.polyglot.cached import BOUND_SECONDS, SHORT, SHORT_SECONDS, Cached, cached
from tests.polyglot.conftest import Connect
from tests.polyglot.testee import Refused, Testee
from tests.support.waiting import eventually

# The delay of a proof: 80 % of the time for which a proof counts.
LATE_SECONDS = 0.8 * SHORT_SECONDS


def watched_again(service: Service, before: int) -> bool:
    """Returns True if a watch was opened after the first `before` watches."""
    return service.watches > before


async def off(cache: Cached) -> None:
    """Waits until the cache knows that its watch is broken."""

    async def is_off() -> bool:
        return not (await cache.stats())["live"]

    await eventually(is_off, "the cache to be off")


async def test_while_the_watch_is_cut_every_validation_reaches_the_service(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    scripted.watch_code = grpc.StatusCode.UNAVAILABLE
    scripted.cut()
    await off(cache)
    assert (await cache.stats())["entries"] == 0
    scripted.revoke("bob")
    assert not (await cache.ask("bob"))["active"]
    assert await cache.keeps_nothing("ada")


async def test_a_cut_watch_is_opened_again_and_the_cache_answers_again(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    for _ in range(2):
        before = scripted.watches
        scripted.cut()
        await eventually(partial(watched_again, scripted, before), "another watch")
        await cache.warm("ada", "bob")
    scripted.revoke("bob")
    await cache.denied_within("bob", time.monotonic(), BOUND_SECONDS)
    assert await cache.is_hit("ada")


async def test_no_kept_answer_outlives_its_watch(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    scripted.flowing.clear()
    scripted.revoke("bob")  # The watch never sends it.
    scripted.cut()
    scripted.flowing.set()
    await eventually(lambda: scripted.watches >= 2, "another watch")
    await cache.warm("ada")  # The next watch is live.
    assert not (await cache.ask("bob"))["active"]


async def test_while_the_watch_stalls_no_answer_is_staler_than_the_bound(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted, **SHORT)
    await cache.warm("ada")
    scripted.flowing.clear()
    scripted.revoke("bob")
    await cache.denied_within("bob", time.monotonic(), SHORT_SECONDS)
    await off(cache)
    assert await cache.keeps_nothing("ada")


async def test_a_resumed_watch_sends_the_events_that_were_missed(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted, **SHORT)
    scripted.flowing.clear()
    scripted.revoke("bob")
    await cache.denied_within("bob", time.monotonic(), SHORT_SECONDS)
    scripted.flowing.set()
    await cache.warm("ada")
    assert await cache.keeps_nothing("bob")


async def test_a_delayed_proof_proves_no_more_than_when_it_was_sent(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted, **SHORT)
    revoked_at = 0.0

    def late() -> float:
        """Runs after a message was made, and before it is sent."""
        nonlocal revoked_at
        if not revoked_at:
            scripted.revoke("bob")
            revoked_at = time.monotonic()
        return LATE_SECONDS

    scripted.message_delay = late
    await eventually(lambda: revoked_at, "the revocation")
    await cache.denied_within("bob", revoked_at, SHORT_SECONDS)


async def test_a_caller_without_the_right_to_watch_validates_without_a_cache(
    testee: Testee, connect: Connect, scripted: Service
):
    scripted.watch_code = grpc.StatusCode.PERMISSION_DENIED
    await connect(scripted.address, cache={})
    cache = Cached(testee, scripted)
    assert await cache.keeps_nothing("ada")
    assert not (await cache.stats())["live"]


async def test_after_a_restart_of_the_service_no_earlier_answer_is_believed(
    testee: Testee, connect: Connect, authority: FakeAuthority
):
    await connect(authority.address, cache={})

    async def signed_in(user: str) -> dict[str, str]:
        issued = await testee.do("sign_in", client="a", user_id=user)
        return {
            "access_token": issued["access_token"],
            "device_id": issued["device"]["device_id"],
        }

    async def is_hit(shown: dict[str, str]) -> bool:
        before = authority.calls.total()
        assert (await testee.do("validate", client="a", **shown))["active"]
        return authority.calls.total() == before

    ada, bob = await signed_in("ada"), await signed_in("bob")
    for shown in (ada, bob):
        await eventually(partial(is_hit, shown), "a hit")
    authority.stop()

    async def is_off() -> bool:
        return not (await testee.do("stats", client="a"))["live"]

    await eventually(is_off, "the cache to be off")
    with pytest.raises(Refused) as caught:
        await testee.do("validate", client="a", **ada)
    assert caught.value.kind == "unavailable"
    authority.start()
    authority.sign_out("ada")

    async def answers() -> bool:
        try:
            await testee.do("validate", client="a", **ada)
        except Refused:
            return False
        return True

    await eventually(answers, "the service to be found again")
    assert not (await testee.do("validate", client="a", **ada))["active"]
    await eventually(lambda: is_hit(bob), "the cache to answer again")
