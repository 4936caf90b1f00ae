"""With a cache, callers that validate the same token at the same time share one call."""

from __future__ import annotations

from functools import partial

import grpc
import pytest

from client_tests.service_harness import Service
from tests.polyglot.cached import cached
from tests.polyglot.conftest import Connect
from tests.polyglot.samples import item
from tests.polyglot.testee import Refused, Testee
from tests.support.waiting import eventually

CALLERS = 32


async def test_the_same_validation_at_once_is_one_call(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    misses = (await cache.stats())["misses"]
    scripted.open.clear()
    asking = testee.begin("validate_many", client="a", items=[item("ada")] * CALLERS)
    # A caller that looks into the cache after the call has ended finds the answer there.
    await eventually(partial(cache.missed, misses + CALLERS), "all callers to ask")
    scripted.open.set()
    results = (await asking.reply())["results"]
    assert [result["ok"]["session"]["user_id"] for result in results] == ["ada"] * CALLERS
    assert cache.asked("ada") == 1


async def test_different_validations_are_not_shared(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    scripted.open.clear()
    other = {**item("ada"), "device_id": "0b3d5a53-6d0f-4b4e-9c55-0f3f8b0a7c11"}
    items = [item("ada"), other, item("carl")]
    asking = testee.begin("validate_many", client="a", items=items)
    await eventually(lambda: (cache.asked("ada"), cache.asked("carl")) == (2, 1), "three questions")
    scripted.open.set()
    results = (await asking.reply())["results"]
    assert [result["ok"]["session"]["device_id"] for result in results] == [
        each["device_id"] for each in items
    ]


async def test_a_caller_with_more_time_calls_again_when_the_first_ran_out_of_it(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    scripted.open.clear()
    hasty = testee.begin("validate", client="a", timeout_ms=300, **item("ada"))
    patient = testee.begin("validate", client="a", **item("ada"))
    with pytest.raises(Refused) as caught:
        await hasty.reply()
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert not patient.done
    scripted.open.set()
    assert (await patient.reply())["session"]["user_id"] == "ada"
    assert cache.asked("ada") <= 2


async def test_a_failure_is_each_caller_s_and_the_next_caller_calls_again(
    testee: Testee, connect: Connect, scripted: Service
):
    cache = await cached(testee, connect, scripted)
    scripted.code = grpc.StatusCode.PERMISSION_DENIED
    asking = testee.begin("validate_many", client="a", items=[item("ada")] * CALLERS)
    results = (await asking.reply())["results"]
    assert [result["error"]["kind"] for result in results] == ["caller_not_allowed"] * CALLERS
    scripted.code = None
    assert (await cache.ask("ada"))["active"]
