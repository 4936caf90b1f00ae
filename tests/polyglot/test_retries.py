"""Which calls are retried, how often, and for how long."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest

from client_tests.harness import Act, Fake, away, fails, refuses
from session_authority.rpc.status import Failure
from session_authority.v1 import errors_pb2
from tests.polyglot.conftest import Connect
from tests.polyglot.samples import CALLS
from tests.polyglot.testee import Refused, Testee

UNAVAILABLE, CANCELLED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED
# An empty answer to these calls is no valid answer: the client may report that.
_EMPTY_IS_ODD = {"IssueDevice", "BatchValidateSessions", "CheckSessions"}
OVERLOADED = Failure(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors_pb2.ERROR_REASON_OVERLOADED,
    "too much to do",
    retry_after=timedelta(seconds=7),
)


async def make(testee: Testee, method: str) -> None:
    """Makes a call, which the fake answers with an empty message in the end."""
    command, fields = CALLS[method]
    try:
        await testee.do(command, client="a", **fields)
    except Refused as refused:
        if method not in _EMPTY_IS_ODD or refused.code == UNAVAILABLE.name:
            raise


@pytest.mark.parametrize("first", [away, fails(CANCELLED)], ids=["UNAVAILABLE", "CANCELLED"])
@pytest.mark.parametrize("method", CALLS)
async def test_an_unavailable_call_is_retried_unchanged(
    testee: Testee, connect: Connect, fake: Fake, method: str, first: Act
):
    fake.acts.extend([first, first])
    await connect(fake.address)
    await make(testee, method)
    assert [call.method for call in fake.calls] == [method] * 3
    assert fake.requests() == [fake.requests()[0]] * 3


async def test_a_retried_sign_in_keeps_its_request_id_and_the_next_has_another(
    testee: Testee, connect: Connect, fake: Fake
):
    fake.acts.append(away)
    await connect(fake.address)
    await make(testee, "IssueDevice")
    await make(testee, "IssueDevice")
    first, again, second = [request.request_id for request in fake.requests()]
    assert first
    assert first == again != second


@pytest.mark.parametrize("always", [away, fails(CANCELLED)], ids=["UNAVAILABLE", "CANCELLED"])
async def test_at_most_three_attempts_are_made(
    testee: Testee, connect: Connect, fake: Fake, always: Act
):
    fake.always = always
    await connect(fake.address)
    with pytest.raises(Refused) as caught:
        await make(testee, "ListDevices")
    assert len(fake.calls) == 3
    assert caught.value.kind == "unavailable"
    if always is away:
        told = caught.value.code, caught.value.reason, caught.value.retry_after_ms
        assert told == ("UNAVAILABLE", "STORE_UNAVAILABLE", 1000)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "unavailable"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded"),
        (grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
        (grpc.StatusCode.UNAUTHENTICATED, "caller_unknown"),
        (grpc.StatusCode.PERMISSION_DENIED, "caller_not_allowed"),
        (grpc.StatusCode.ABORTED, "other"),
        (grpc.StatusCode.NOT_FOUND, "other"),
        (grpc.StatusCode.INTERNAL, "other"),
        (grpc.StatusCode.UNKNOWN, "other"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
async def test_no_other_failure_is_retried(
    testee: Testee, connect: Connect, fake: Fake, code: grpc.StatusCode, kind: str
):
    fake.always = fails(code)
    await connect(fake.address)
    with pytest.raises(Refused) as caught:
        await make(testee, "ListDevices")
    assert (caught.value.kind, caught.value.code) == (kind, code.name)
    assert len(fake.calls) == 1


@pytest.mark.parametrize("method", ["ValidateSession", "IssueDevice"])
async def test_an_overloaded_service_gets_no_retries(
    testee: Testee, connect: Connect, fake: Fake, method: str
):
    fake.always = refuses(OVERLOADED)
    await connect(fake.address)
    command, fields = CALLS[method]
    with pytest.raises(Refused) as caught:
        await testee.do(command, client="a", **fields)
    assert (caught.value.kind, caught.value.retry_after_ms) == ("overloaded", 7000)
    assert len(fake.calls) == 1


async def test_retries_do_not_keep_a_service_down(testee: Testee, connect: Connect, fake: Fake):
    fake.always = fails(UNAVAILABLE)
    await connect(fake.address)
    for _ in range(40):
        with pytest.raises(Refused):
            await make(testee, "ListDevices")
    assert 40 < len(fake.calls) <= 40 + 10


async def test_retries_come_back_once_calls_succeed(testee: Testee, connect: Connect, fake: Fake):
    fake.always = fails(UNAVAILABLE)
    await connect(fake.address)
    for _ in range(20):
        with pytest.raises(Refused):
            await make(testee, "ListDevices")
    fake.always = None
    for _ in range(150):  # Each success makes up for a tenth of a failure.
        await make(testee, "ListDevices")
    fake.calls.clear()
    fake.acts.append(away)
    await make(testee, "ListDevices")
    assert len(fake.calls) == 2


@pytest.mark.commands("watch")
async def test_a_watch_is_not_retried(testee: Testee, connect: Connect, fake: Fake):
    fake.always = away
    await connect(fake.address)
    with pytest.raises(Refused) as caught:
        await testee.do("watch", client="a", cursor="c1")
    assert caught.value.kind == "unavailable"
    assert [(call.method, call.request.cursor) for call in fake.calls] == [("WatchEvents", "c1")]
