"""A service that is far away, hangs, allows few streams, closes connections or restarts: no call is
lost.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from client_tests import service_harness
from client_tests.harness import Fake, behind
from client_tests.service_harness import Service
from session_authority.v1 import session_authority_pb2 as pb
from tests.polyglot.conftest import Connect
from tests.polyglot.samples import CALLS, item
from tests.polyglot.testee import PATIENCE, Refused, Testee
from tests.support.dev import DevServer, start_dev_server
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

USERS = [f"user {number}" for number in range(200)]
ITEMS = [item(user) for user in USERS]
# The service's own setting: gRPC's server treats many streams that end at once as an attack.
_PATIENT_SERVER = ("grpc.http2.max_deallocating_streams", 1000)
LIST, OF_ADA = CALLS["ListDevices"]


@asynccontextmanager
async def far(address: str, delay_seconds: float) -> AsyncIterator[str]:
    """The address of a service whose bytes take this long in each direction."""

    async def hold(_: bytes) -> None:
        await asyncio.sleep(delay_seconds)

    async with Proxy(f"redis://{address}") as wire:
        wire.on_request = wire.on_reply = hold
        yield behind(wire)


@asynccontextmanager
async def stalling(address: str) -> AsyncIterator[str]:
    """The address of a service that stands still for 300 of each 400 ms."""

    async def hold(_: bytes) -> None:
        into = asyncio.get_running_loop().time() % 0.4
        if into < 0.3:
            await asyncio.sleep(0.3 - into)

    async with Proxy(f"redis://{address}") as wire:
        wire.on_request = wire.on_reply = hold
        yield behind(wire)


@contextmanager
def limited(*options: tuple[str, int]) -> Iterator[Service]:
    """A service with these limits of gRPC."""
    with service_harness.running(options) as (service, _):
        service.answer_delay = lambda: 0.02
        yield service


def users_of(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The users of answers that are all active. Fails for an error."""
    errors = [each["error"] for each in results if "error" in each]
    assert errors == []
    return [each["ok"]["session"]["user_id"] for each in results]


@pytest.mark.parametrize("delay_ms", [0, 40, 100, 200, 400])
async def test_the_first_call_reaches_a_distant_service(
    testee: Testee, connect: Connect, fake: Fake, delay_ms: int
):
    async with far(fake.address, delay_ms / 1000) as address:
        await connect(address)
        await testee.do(LIST, client="a", **OF_ADA)
        await testee.do("close", client="a")
    assert len(fake.calls) == 1


async def test_the_first_calls_reach_a_service_that_hangs_most_of_the_time(
    testee: Testee, connect: Connect, fake: Fake
):
    async with stalling(fake.address) as address:
        commands = []
        for number in range(8):  # The calls begin at different moments of the stall.
            name = f"client {number}"
            await connect(address, client=name)
            commands.append(testee.begin(LIST, client=name, **OF_ADA))
            await asyncio.sleep(0.05)
        for command in commands:
            await command.reply()
        for number in range(8):
            await testee.do("close", client=f"client {number}")


@pytest.mark.parametrize("batching", [True, False], ids=["batches", "no batches"])
@pytest.mark.parametrize("streams", [64, 100])
async def test_a_service_that_allows_few_streams_loses_no_call(
    testee: Testee, connect: Connect, streams: int, batching: bool
):
    with limited(("grpc.max_concurrent_streams", streams), _PATIENT_SERVER) as service:
        await connect(service.address, batching=batching)
        for _ in range(3):
            results = (await testee.do("validate_many", client="a", items=ITEMS))["results"]
            assert users_of(results) == USERS
        assert service.most_at_once <= 64


async def test_callers_that_give_up_on_a_full_connection_cost_no_later_call(
    testee: Testee, connect: Connect
):
    with limited(("grpc.max_concurrent_streams", 100), _PATIENT_SERVER) as service:
        await connect(service.address, batching=False)
        await testee.do("validate", client="a", **item("ada"))
        service.open.clear()
        many = {"client": "a", "items": ITEMS}
        results = (await testee.do("validate_many", timeout_ms=500, **many))["results"]
        assert {each["error"]["kind"] for each in results} == {"unavailable"}
        service.open.set()
        await eventually(lambda: service.at_once == 0, "the service to be done with them")
        assert users_of((await testee.do("validate_many", **many))["results"]) == USERS


@pytest.mark.parametrize("batching", [True, False], ids=["batches", "no batches"])
async def test_connections_that_reach_their_maximum_age_lose_no_call(
    testee: Testee, connect: Connect, batching: bool
):
    """The service sends GOAWAY again and again, and lets calls that are under way end."""
    options = (("grpc.max_connection_age_ms", 300), ("grpc.max_connection_age_grace_ms", 20_000))
    with limited(*options) as service:
        await connect(service.address, batching=batching)
        for _ in range(40):
            results = (await testee.do("validate_many", client="a", items=ITEMS[:20]))["results"]
            assert users_of(results) == USERS[:20]


async def answers(testee: Testee) -> bool:
    """Returns True if the service was reached. Fails for an error of another kind."""
    try:
        await testee.do(LIST, client="a", **OF_ADA)
    except Refused as refused:
        assert refused.kind == "unavailable"  # noqa: PT017
        return False
    return True


async def test_a_service_that_stops_in_order_answers_the_calls_it_has_begun(
    testee: Testee, connect: Connect, fake: Fake
):
    begun, go = threading.Event(), threading.Event()

    def late(request: Any, context: Any) -> pb.ListDevicesResponse:
        begun.set()
        go.wait(PATIENCE)
        return pb.ListDevicesResponse(total_size=7)

    await connect(fake.address)
    fake.acts.append(late)
    calling = testee.begin(LIST, client="a", **OF_ADA)
    await eventually(begun.is_set, "the call")
    stopping = fake._server.stop(PATIENCE)
    go.set()
    assert (await calling.reply())["total_size"] == 7
    await asyncio.to_thread(stopping.wait)
    assert len(fake.calls) == 1


async def test_a_service_that_restarts_is_found_again(testee: Testee, connect: Connect, fake: Fake):
    await connect(fake.address)
    for _ in range(3):
        await testee.do(LIST, client="a", **OF_ADA)
        fake.stop()
        assert not await answers(testee)
        fake.start()
        await eventually(partial(answers, testee), "the service to be found again")


async def test_a_cut_connection_is_replaced_for_the_call_that_it_broke(
    testee: Testee, connect: Connect, fake: Fake
):
    cut = 0

    async def lose(_: bytes) -> None:
        nonlocal cut
        if fake.calls and not cut:
            cut += 1
            raise ConnectionError

    async with Proxy(f"redis://{fake.address}") as wire:
        wire.on_reply = lose
        await connect(behind(wire))
        await testee.do(LIST, client="a", **OF_ADA)
        await testee.do("close", client="a")
    assert cut == 1
    assert len(fake.calls) == 2
    assert fake.requests()[0] == fake.requests()[1]


@pytest.mark.slow
@pytest.mark.commands("http")
async def test_a_real_service_that_stops_and_starts_signs_no_user_out(
    testee: Testee, connect: Connect, tmp_path: Path
):
    dev = await asyncio.to_thread(start_dev_server, tmp_path / "data")
    port = int(dev.address.rpartition(":")[2])
    starting: asyncio.Task[DevServer] | None = None
    try:
        await connect(dev.address, cache={})
        issued = await testee.do("sign_in", client="a", user_id="ada")
        shown = {
            "access_token": issued["access_token"],
            "device_id": issued["device"]["device_id"],
        }
        answers = {"active": 0, "unavailable": 0}

        async def ask() -> bool:
            try:
                answer = await testee.do("validate", client="a", **shown)
            except Refused as refused:
                answers["unavailable"] += 1
                assert refused.kind == "unavailable"  # noqa: PT017
                return False
            assert answer["active"], answer
            answers["active"] += 1
            return True

        await eventually(ask, "an answer")
        dev.process.send_signal(signal.SIGTERM)
        stopped = asyncio.create_task(asyncio.to_thread(dev.process.wait, 40))
        while not stopped.done():
            await ask()
        await stopped
        assert not await ask()
        starting = asyncio.create_task(
            asyncio.to_thread(start_dev_server, tmp_path / "data", None, port)
        )
        while not starting.done():
            await ask()
        dev = await starting
        await eventually(ask, "an answer again")
        assert min(answers.values()) > 0
    finally:
        if starting is not None:
            dev = await starting
        dev.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(dev.process.wait, 40)
