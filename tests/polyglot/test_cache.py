"""What a near cache keeps, for how long, and which events drop it, while its watch works."""

from __future__ import annotations

import time

import pytest

from client_tests.service_harness import Service
from session_authority.v1 import session_authority_pb2 as pb
from tests.polyglot.cached import BOUND_SECONDS, cached
from tests.polyglot.conftest import Connect
from tests.polyglot.samples import item
from tests.polyglot.testee import Testee
from tests.support.waiting import eventually

UNKNOWN_TYPE = 999


async def test_a_hit_makes_no_call(testee: Testee, connect: Connect, scripted: Service):
    cache = await cached(testee, connect, scripted)
    before, calls = await cache.stats(), list(scripted.calls)
    for _ in range(10):
        answer = await cache.ask("bob")
        assert (answer["active"], answer["session"]["user_id"]) == (True, "bob")
    assert scripted.calls == calls
    after = await cache.stats()
    assert after["hits"] == before["hits"] + 10
    assert (after["live"], after["entries"]) == (True, 1)


async def test_a_revocation_drops_only_the_answers_for_its_user(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    await cache.warm("ada")
    scripted.revoke("ada")
    await cache.denied_within("ada", time.monotonic(), BOUND_SECONDS)
    assert await cache.is_hit("bob")
    assert await cache.keeps_nothing("ada")


@pytest.mark.parametrize(
    "kind",
    [
        pb.EVENT_TYPE_DEVICE_REVOKED,
        pb.EVENT_TYPE_DEVICE_SIGNED_IN,
        pb.EVENT_TYPE_SESSION_REPLAYED,
        pb.EVENT_TYPE_SESSION_UPDATED,
    ],
    ids=pb.EventType.Name,
)
async def test_every_event_of_a_user_drops_the_answers_for_the_user(
    testee: Testee, connect: Connect, scripted: Service, kind: int
):
    cache = await cached(testee, connect, scripted)
    await cache.warm("ada")
    scripted.happen(kind, "ada")
    await cache.told(1)
    before = cache.asked("ada")
    await cache.ask("ada")
    assert cache.asked("ada") == before + 1
    assert await cache.is_hit("bob")


@pytest.mark.parametrize(
    ("kind", "user"),
    [(UNKNOWN_TYPE, "ada"), (pb.EVENT_TYPE_ALL_REVOKED, "")],
    ids=["of an unknown type", "of no user"],
)
async def test_an_event_that_may_concern_every_user_empties_the_cache(
    testee: Testee, connect: Connect, scripted: Service, kind: int, user: str
):
    cache = await cached(testee, connect, scripted)
    await cache.warm("ada")
    scripted.happen(kind, user)
    await cache.told(0)
    await cache.warm("ada", "bob")


async def test_after_a_revoked_key_no_answer_is_kept(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    scripted.happen(pb.EVENT_TYPE_SIGNING_KEY_REVOKED)
    await cache.told(0)
    assert await cache.keeps_nothing("bob")
    assert (await cache.stats())["live"]


async def test_an_answer_that_is_older_than_an_event_is_not_kept(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    await cache.warm("carl")
    scripted.open.clear()
    early = testee.begin("validate", client="a", **item("ada"))
    await eventually(lambda: "token of ada" in scripted.on_their_way, "the answer to be decided")
    scripted.revoke("ada")
    scripted.happen(pb.EVENT_TYPE_SESSION_UPDATED, "carl")
    # The event of carl dropped an answer, so the earlier event of ada arrived, too.
    await cache.told(1)
    scripted.open.set()
    assert (await early.reply())["active"], "it was asked for before the revocation"
    assert not (await cache.ask("ada"))["active"]


async def test_a_later_caller_does_not_join_a_call_that_is_older_than_an_event(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    await cache.warm("carl")
    scripted.open.clear()
    early = testee.begin("validate", client="a", **item("ada"))
    await eventually(lambda: cache.asked("ada") == 1, "the first call")
    scripted.revoke("ada")
    scripted.happen(pb.EVENT_TYPE_SESSION_UPDATED, "carl")
    await cache.told(1)
    late = testee.begin("validate", client="a", **item("ada"))
    await eventually(lambda: cache.asked("ada") == 2, "a call of its own")
    scripted.open.set()
    assert (await early.reply())["active"]
    assert not (await late.reply())["active"]


async def test_no_refusal_is_kept(testee: Testee, connect: Connect, scripted: Service):
    scripted.revoke("ada")
    cache = await cached(testee, connect, scripted)
    assert await cache.keeps_nothing("ada")


async def test_an_answer_that_recommends_a_renewal_is_not_kept(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    scripted.renew = True
    assert await cache.keeps_nothing("ada")
    scripted.renew = False
    await cache.warm("ada")


@pytest.mark.parametrize("how", ["observe_only", "passive"])
async def test_a_passive_validation_does_not_use_the_cache(
    testee: Testee, connect: Connect, scripted: Service, how: str
):
    cache = await cached(testee, connect, scripted)
    before = cache.asked("bob")
    for _ in range(3):
        await cache.ask("bob", **{how: True})
        await cache.ask("ada", **{how: True})
    assert (cache.asked("bob") - before, cache.asked("ada")) == (3, 3)
    assert not await cache.is_hit("ada")
    assert await cache.is_hit("bob")


async def test_a_token_from_another_device_is_no_hit(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    before = cache.asked("bob")
    await cache.ask("bob", device_id="0b3d5a53-6d0f-4b4e-9c55-0f3f8b0a7c11")
    assert cache.asked("bob") == before + 1


async def test_an_answer_is_kept_for_max_age_at_most(
    testee: Testee, connect: Connect, scripted: Service
):
    max_age = 0.5
    cache = await cached(testee, connect, scripted, max_age_ms=1000 * max_age)
    assert not await cache.is_hit("ada")
    kept = time.monotonic()
    while True:
        sent = time.monotonic()
        if not await cache.is_hit("ada"):
            break
        assert sent <= kept + max_age


async def test_an_answer_is_not_given_past_the_end_of_its_token(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    scripted.life_seconds = 1.0
    assert not await cache.is_hit("ada")
    ends = time.time() + scripted.life_seconds
    while True:
        sent = time.time()
        if not await cache.is_hit("ada"):
            break
        assert sent <= ends


async def test_the_cache_is_bounded(testee: Testee, connect: Connect, scripted: Service):
    cache = await cached(testee, connect, scripted, max_entries=3)
    for number in range(10):
        await cache.ask(f"user {number}")
    assert (await cache.stats())["entries"] == 3
    assert await cache.is_hit("user 9")
    assert not await cache.is_hit("user 0")


async def test_the_client_s_own_revocation_does_not_wait_for_the_event(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    await cache.warm("ada")
    scripted.flowing.clear()  # No event comes.
    await testee.do("revoke_all", client="a", user_id="ada")
    assert not (await cache.ask("ada"))["active"]


async def test_a_renewed_token_is_validated_by_the_service(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    await testee.do("renew", client="a", **item("bob"))
    assert not await cache.is_hit("bob")
    assert await cache.is_hit("bob")


async def test_a_client_without_a_cache_calls_the_service_each_time(
    testee: Testee, connect: Connect, scripted: Service
):
    await connect(scripted.address)
    for _ in range(3):
        await testee.do("validate", client="a", **item("ada"))
    assert len(scripted.requests) == 3
    assert scripted.watches == 0
    told = await testee.do("stats", client="a")
    assert told == {"live": False, "entries": 0, "hits": 0, "misses": 0}
