"""Retries and deadlines: which calls are retried, and that no call takes effect twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

import session_authority_client as sa
from client_tests.harness import (
    PATIENCE,
    SERVICE,
    Act,
    Connect,
    Fake,
    Hang,
    away,
    behind,
    fails,
    refuses,
)
from session_authority.rpc.status import Failure
from session_authority.v1 import errors_pb2
from session_authority_client._shared import transport
from session_authority_client._shared.transport import DEFAULT_TIMEOUT
from tests.support.proxy import Proxy

UNARY = [method.name for method in SERVICE.methods if not method.server_streaming]
CALLS: dict[str, Any] = {
    "IssueDevice": lambda authority: authority.issue_device("ada"),
    "RenewSession": lambda authority: authority.renew_session("t", "d"),
    "UpdateSession": lambda authority: authority.update_session("ada", {"name": "Ada"}),
    "ValidateSession": lambda authority: authority.validate_session("t", "d"),
    "BatchValidateSessions": lambda authority: authority.validate_sessions([("t", "d")]),
    "CheckSessions": lambda authority: authority.check_sessions([sa.SessionName("u", "d", "s")]),
    "ListDevices": lambda authority: authority.list_devices("ada"),
    "UpdateDevice": lambda authority: authority.update_device("ada", "d", display_name="x"),
    "RevokeDevice": lambda authority: authority.revoke_device("ada", "d"),
    "RevokeAll": lambda authority: authority.revoke_all("ada"),
    "GetSigningKeys": lambda authority: authority.get_signing_keys(),
}


@pytest.mark.parametrize("method", UNARY)
async def test_a_call_to_an_unavailable_service_is_retried_with_the_same_request(
    connect: Connect, fake: Fake, method: str
):
    fake.acts.extend([away, fails(grpc.StatusCode.UNAVAILABLE)])
    async with connect(fake.address, timeout=PATIENCE) as authority:
        await CALLS[method](authority)
    assert [call.method for call in fake.calls] == [method] * 3
    assert fake.requests() == [fake.requests()[0]] * 3


@pytest.mark.parametrize("method", UNARY)
async def test_a_call_that_a_stopping_server_cancels_is_retried(
    connect: Connect, fake: Fake, method: str
):
    fake.acts.extend([fails(grpc.StatusCode.CANCELLED)] * 2)
    async with connect(fake.address, timeout=PATIENCE) as authority:
        await CALLS[method](authority)
    assert [call.method for call in fake.calls] == [method] * 3
    assert fake.requests() == [fake.requests()[0]] * 3


@pytest.mark.parametrize("always", [away, fails(grpc.StatusCode.CANCELLED)])
async def test_a_call_is_sent_at_most_three_times(connect: Connect, fake: Fake, always: Act):
    fake.always = always
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.Unavailable) as caught:
            await authority.validate_session("t", "d")
    assert len(fake.calls) == 3
    told = caught.value.reason, caught.value.retry_after
    assert told == (("STORE_UNAVAILABLE", timedelta(seconds=1)) if always is away else ("", None))


@pytest.mark.parametrize(
    "code",
    sorted(
        set(grpc.StatusCode)
        - {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED},
        key=str,
    ),
)
async def test_no_other_failure_is_retried(connect: Connect, fake: Fake, code: grpc.StatusCode):
    fake.always = fails(code)
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.SessionAuthorityError):
            await authority.issue_device("ada")
    assert len(fake.calls) == 1


async def test_an_overloaded_service_gets_no_retries(connect: Connect, fake: Fake):
    fake.always = refuses(
        Failure(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            errors_pb2.ERROR_REASON_OVERLOADED,
            "no",
            retry_after=PATIENCE,
        )
    )
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.Overloaded) as caught:
            await authority.validate_session("t", "d")
    assert len(fake.calls) == 1
    assert caught.value.retry_after == PATIENCE


async def test_a_watch_is_not_retried(connect: Connect, fake: Fake):
    fake.always = away
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.Unavailable):
            await anext(aiter(authority.watch_events(cursor="c1")))
    assert len(fake.calls) == 1


async def test_a_service_that_is_down_gets_few_retries(connect: Connect, fake: Fake):
    fake.always = fails(grpc.StatusCode.UNAVAILABLE)
    async with connect(fake.address, timeout=PATIENCE) as authority:
        for _ in range(40):
            with pytest.raises(sa.Unavailable):
                await authority.get_signing_keys()
    assert 40 < len(fake.calls) <= 40 + 10


@pytest.mark.parametrize("method", UNARY)
async def test_a_call_whose_reply_is_lost_is_sent_again(connect: Connect, fake: Fake, method: str):
    lost = False

    async def lose(_: bytes) -> None:
        nonlocal lost
        if fake.calls and not lost:
            lost = True
            raise ConnectionError

    async with Proxy(f"redis://{fake.address}") as wire:
        wire.on_reply = lose
        async with connect(behind(wire), timeout=PATIENCE) as authority:
            await CALLS[method](authority)
    assert wire.connections == 2
    assert fake.requests() == [fake.requests()[0]] * 2


async def test_a_sign_in_whose_reply_is_lost_happens_once(connect: Connect, address: str):
    user, since, lost = f"u-{uuid4()}", datetime.now(UTC) - timedelta(minutes=1), 0

    async def lose(data: bytes) -> None:
        nonlocal lost
        # every JWT begins like this: the reply with the token is lost
        if b"eyJ" in data and lost < 1:
            lost += 1
            raise ConnectionError

    async with Proxy(f"redis://{address}") as wire:
        wire.on_reply = lose
        async with connect(behind(wire), timeout=PATIENCE) as authority:
            issued = await authority.issue_device(user)
    assert lost == 1
    async with connect(address, timeout=PATIENCE) as authority:
        assert await authority.validate_session(issued.access_token, issued.device.device_id)
        watch = aiter(authority.watch_events(since=since, user_ids=[user]))
        while not (batch := await anext(watch)).events:
            pass
        await watch.aclose()
        page = await authority.list_devices(user, include_signed_out=True)
    assert [(event.type, event.session_id) for event in batch.events] == [
        (sa.EventType.DEVICE_SIGNED_IN, issued.device.session_id)
    ]
    assert page.total_size == 1


async def test_every_sign_in_has_its_own_request_id_unless_the_caller_gives_one(
    connect: Connect, fake: Fake
):
    mine = str(uuid4())
    async with connect(fake.address, timeout=PATIENCE) as authority:
        await authority.issue_device("ada")
        await authority.issue_device("ada")
        await authority.issue_device("ada", request_id=mine)
    first, second, third = [request.request_id for request in fake.requests()]
    assert len({UUID(first), UUID(second)}) == 2
    assert third == mine


# --- deadlines ------------------------------------------------------------------------------------


def about(timeout: timedelta) -> float:
    """The longest timeout that may arrive at the service: gRPC rounds timeouts up."""
    return 1.05 * timeout.total_seconds()


async def test_a_call_has_300_ms_unless_the_caller_allows_more(connect: Connect, fake: Fake):
    assert timedelta(milliseconds=300) == DEFAULT_TIMEOUT
    async with connect(fake.address) as authority:
        # The first call also connects, which may take long on a busy machine.
        await authority.get_signing_keys(timeout=PATIENCE)
        fake.always = lambda request, context: Hang()(request, context)
        # On a very busy machine the deadline may pass before the service receives the call.
        while len(fake.calls) < 2:
            with pytest.raises(sa.Unavailable) as caught:
                await authority.validate_session("t", "d")
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    patient, usual, *_ = [call.within or 0 for call in fake.calls]
    assert 5 < patient <= about(PATIENCE)
    assert 0 < usual <= about(DEFAULT_TIMEOUT)


async def test_a_longer_timeout_can_be_set_for_a_client_or_a_call(connect: Connect, fake: Fake):
    async with connect(fake.address, timeout=timedelta(seconds=10)) as authority:
        await authority.get_signing_keys()
        await authority.get_signing_keys(timeout=timedelta(seconds=15))
        await authority.get_signing_keys()
    first, longer, third = [call.within or 0 for call in fake.calls]
    ten = about(timedelta(seconds=10))
    assert third <= ten < longer <= about(timedelta(seconds=15))
    assert first <= ten


async def test_a_watch_has_no_deadline(connect: Connect, fake: Fake):
    async with connect(fake.address) as authority:
        assert [batch async for batch in authority.watch_events()] == []
    assert (fake.calls[0].within or 1e9) > 1e6


def test_every_method_but_the_watch_is_retried():
    config = json.loads(dict(transport.Transport("h:1").channel_options())["grpc.service_config"])
    (methods,) = config["methodConfig"]
    assert [name["method"] for name in methods["name"]] == UNARY
    assert {name["service"] for name in methods["name"]} == {SERVICE.full_name}
