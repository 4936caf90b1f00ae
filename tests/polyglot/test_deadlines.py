"""A service that does not answer costs each caller the caller's own time, and no other caller
any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from client_tests.harness import Act, Fake, Hang, fails
from client_tests.service_harness import Service
from tests.polyglot.conftest import Connect
from tests.polyglot.samples import CALLS, item
from tests.polyglot.testee import PATIENCE, Refused, Testee
from tests.support.waiting import eventually

SHORT_MS = 200


def hang(request: Any, context: grpc.ServicerContext) -> None:
    """Answers nothing for as long as the caller waits."""
    Hang()(request, context)


def late(act: Act, begun: threading.Event, go: threading.Event) -> Act:
    """An act that waits until the test sets `go`. It sets `begun` when the call has arrived."""

    def wait(request: Any, context: grpc.ServicerContext) -> Any:
        begun.set()
        go.wait(PATIENCE)
        return act(request, context)

    return wait


def queued(service: Service) -> Callable[[], int]:
    """How many validations reached the service."""
    return lambda: sum(count for _, count in service.methods())


@pytest.mark.parametrize("method", CALLS)
async def test_a_service_that_never_answers_costs_a_call_its_own_time(
    testee: Testee, connect: Connect, fake: Fake, method: str
):
    await connect(fake.address)
    command, fields = CALLS["ListDevices"]
    await testee.do(command, client="a", **fields)  # The client connects, which takes time.
    fake.calls.clear()
    fake.always = hang
    command, fields = CALLS[method]
    commands = 0
    while not fake.calls:  # On a very busy machine the time may be over before the call arrives.
        commands += 1
        with pytest.raises(Refused) as caught:
            await testee.do(command, client="a", timeout_ms=SHORT_MS, **fields)
        assert (caught.value.kind, caught.value.code) == ("unavailable", "DEADLINE_EXCEEDED")
    assert {call.method for call in fake.calls} == {method}
    assert len(fake.calls) <= commands, "it was tried again"
    within = fake.calls[0].within
    assert within is not None
    assert within <= 1.05 * SHORT_MS / 1000  # gRPC rounds it up.


async def test_the_client_s_default_deadline_is_300_ms(
    testee: Testee, connect: Connect, fake: Fake
):
    await connect(fake.address, timeout_ms=None)
    command, fields = CALLS["ListDevices"]
    await testee.do(command, client="a", timeout_ms=PATIENCE * 500, **fields)
    while len(fake.calls) < 2:
        try:
            await testee.do(command, client="a", **fields)
        except Refused as refused:  # On a very busy machine the call may be too late.
            assert refused.code == "DEADLINE_EXCEEDED"  # noqa: PT017
    patient, usual, *_ = [call.within or 0 for call in fake.calls]
    assert 0 < usual <= 1.05 * 0.3 < patient


async def test_a_retry_keeps_the_deadline_of_the_first_attempt(
    testee: Testee, connect: Connect, fake: Fake
):
    await connect(fake.address)
    command, fields = CALLS["ListDevices"]
    await testee.do(command, client="a", **fields)
    fake.calls.clear()
    while len(fake.calls) < 2:
        fake.calls.clear()
        fake.acts.clear()
        fake.acts.extend([fails(grpc.StatusCode.UNAVAILABLE), hang])
        with pytest.raises(Refused) as caught:
            await testee.do(command, client="a", timeout_ms=5 * SHORT_MS, **fields)
        assert caught.value.code == "DEADLINE_EXCEEDED"
    assert len(fake.calls) == 2


async def test_no_attempt_begins_after_the_deadline(testee: Testee, connect: Connect, fake: Fake):
    begun, go = threading.Event(), threading.Event()
    await connect(fake.address)
    command, fields = CALLS["ListDevices"]
    await testee.do(command, client="a", **fields)
    fake.calls.clear()
    fake.acts.append(late(fails(grpc.StatusCode.UNAVAILABLE), begun, go))
    commands = 0
    while not begun.is_set():
        commands += 1
        with pytest.raises(Refused) as caught:
            await testee.do(command, client="a", timeout_ms=SHORT_MS, **fields)
        assert caught.value.code == "DEADLINE_EXCEEDED"
    go.set()
    fake.acts.clear()
    await testee.do(command, client="a", user_id="bob")
    *early, last = [call.request.user_id for call in fake.calls]
    assert last == "bob"
    assert 0 < len(early) <= commands


async def test_in_a_batch_each_caller_has_its_own_deadline(
    testee: Testee, connect: Connect, scripted: Service
):
    await connect(scripted.address)
    await testee.do("validate", client="a", **item("ada"))
    scripted.open.clear()
    first = testee.begin("validate", client="a", **item("first"))
    await eventually(lambda: queued(scripted)() == 2, "the first call to be under way")
    patient = testee.begin("validate", client="a", **item("patient"))
    hasty = testee.begin("validate", client="a", timeout_ms=SHORT_MS, **item("hasty"))
    with pytest.raises(Refused) as caught:
        await hasty.reply()
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert not patient.done
    scripted.open.set()
    for user, command in (("first", first), ("patient", patient)):
        assert (await command.reply())["session"]["user_id"] == user


async def test_a_call_that_hangs_delays_no_later_call(
    testee: Testee, connect: Connect, scripted: Service
):
    await connect(scripted.address)
    await testee.do("validate", client="a", **item("ada"))
    scripted.open.clear()
    hung = [testee.begin("validate", client="a", **item(f"user {n}")) for n in range(3)]
    await eventually(lambda: queued(scripted)() == 4, "all to reach the service")
    assert not any(command.done for command in hung)
    scripted.open.set()
    for command in hung:
        assert (await command.reply())["active"]
