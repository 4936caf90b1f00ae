"""Many concurrent validations are few calls, and each caller has its own answer."""

from __future__ import annotations

import grpc
import pytest

from client_tests.service_harness import DEVICE, Service
from session_authority.rpc.status import Failure
from session_authority.v1 import errors_pb2
from tests.polyglot.conftest import Connect
from tests.polyglot.samples import item
from tests.polyglot.testee import Testee

SINGLE, BATCH = "ValidateSession", "BatchValidateSessions"
AWAY = Failure(grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, "away")
CALLERS = 64
USERS = [f"user {number}" for number in range(CALLERS)]
ITEMS = [item(user) for user in USERS]


async def ready(testee: Testee, connect: Connect, service: Service, **options: object) -> None:
    """Connects, and forgets the call that did so."""
    await connect(service.address, **options)
    await testee.do("validate", client="a", **item("ada"))
    service.calls.clear()
    service.answer_delay = lambda: 0.05


async def test_validations_one_after_the_other_are_separate_calls(
    testee: Testee, connect: Connect, scripted: Service
):
    await ready(testee, connect, scripted)
    for user in USERS[:3]:
        await testee.do("validate", client="a", **item(user))
    assert scripted.methods() == [(SINGLE, 1)] * 3


async def test_many_concurrent_validations_are_few_calls_with_each_caller_s_own_answer(
    testee: Testee, connect: Connect, scripted: Service
):
    scripted.revoke(USERS[7])
    await ready(testee, connect, scripted)
    told = await testee.do("validate_many", client="a", items=ITEMS)
    answers = [result["ok"] for result in told["results"]]
    assert [answer["session"] and answer["session"]["user_id"] for answer in answers] == [
        None if user == USERS[7] else user for user in USERS
    ]
    assert sum(count for _, count in scripted.methods()) == CALLERS
    assert len(scripted.methods()) <= CALLERS / 4
    assert (SINGLE, 1) in scripted.methods(), "nothing was under way, so nothing is waited for"
    assert BATCH in {method for method, _ in scripted.methods()}


async def test_one_bad_caller_fails_alone(testee: Testee, connect: Connect, scripted: Service):
    await ready(testee, connect, scripted)
    bad = {"access_token": "broken", "device_id": DEVICE}
    items = [*ITEMS[:20], bad, *ITEMS[20:40]]
    results = (await testee.do("validate_many", client="a", items=items))["results"]
    assert results.pop(20)["error"]["kind"] == "invalid_request"
    assert [result["ok"]["session"]["user_id"] for result in results] == USERS[:40]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "unavailable"),
        (grpc.StatusCode.PERMISSION_DENIED, "caller_not_allowed"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
async def test_a_call_that_fails_gives_each_caller_an_error(
    testee: Testee, connect: Connect, scripted: Service, code: grpc.StatusCode, kind: str
):
    await ready(testee, connect, scripted)
    scripted.code = code
    results = (await testee.do("validate_many", client="a", items=ITEMS))["results"]
    assert [result["error"]["kind"] for result in results] == [kind] * CALLERS


async def test_an_unavailable_batch_is_retried(testee: Testee, connect: Connect, scripted: Service):
    await ready(testee, connect, scripted)
    scripted.refusals = [AWAY] * 2
    results = (await testee.do("validate_many", client="a", items=ITEMS))["results"]
    assert [result["ok"]["session"]["user_id"] for result in results] == USERS
    assert sum(count for _, count in scripted.methods()) > CALLERS


async def test_without_batching_each_validation_is_a_call(
    testee: Testee, connect: Connect, scripted: Service
):
    await ready(testee, connect, scripted, batching=False)
    results = (await testee.do("validate_many", client="a", items=ITEMS))["results"]
    assert [result["ok"]["session"]["user_id"] for result in results] == USERS
    assert scripted.methods() == [(SINGLE, 1)] * CALLERS


async def test_a_call_for_many_sessions_is_one_batch_with_each_answer_in_its_place(
    testee: Testee, connect: Connect, scripted: Service
):
    await ready(testee, connect, scripted)
    bad = {"access_token": "broken", "device_id": DEVICE}
    told = await testee.do("validate_batch", client="a", items=[*ITEMS, bad])
    *good, refused = told["results"]
    assert [result["ok"]["session"]["user_id"] for result in good] == USERS
    assert refused["error"]["kind"] == "invalid_request"
    assert scripted.methods() == [(BATCH, CALLERS + 1)]
