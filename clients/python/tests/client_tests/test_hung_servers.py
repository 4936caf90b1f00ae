"""If one of several servers hangs, few calls fail, and the server gets calls again once it
answers.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

import session_authority_client as sa
from client_tests.harness import PATIENCE, Connect, Fake, Hang
from client_tests.servers import Server, server
from tests.processes.harness import add_signing_key
from tests.support.backends import valkey_server

pytestmark = pytest.mark.slow

# Long enough for a healthy server on a busy machine.
TIMEOUT = timedelta(milliseconds=500)
CALLERS = 5


@dataclass
class Tally:
    """How many calls succeeded, and how many failed."""

    good: int = 0
    bad: int = 0


async def call_until(
    call: Callable[[], Awaitable[Any]],
    over: Callable[[Tally], bool],
    *,
    callers: int = CALLERS,
    pause: float = 0.01,
) -> Tally:
    """Makes calls, several at once, until `over` is true. Returns the tally."""
    tally = Tally()

    async def caller() -> None:
        while not over(tally):
            try:
                await call()
                tally.good += 1
            except sa.SessionAuthorityError:
                tally.bad += 1
            await asyncio.sleep(pause)

    async with asyncio.timeout(3 * PATIENCE.total_seconds()):
        await asyncio.gather(*(caller() for _ in range(callers)))
    return tally


def hang(request: Message, context: grpc.ServicerContext) -> None:
    """Behaves as a server that hangs."""
    Hang()(request, context)


async def test_a_server_that_hangs_fails_few_calls(connect: Connect, fake: Fake):
    with Fake() as other:
        target = f"ipv4:{fake.address},{other.address}"
        async with connect(target, timeout=TIMEOUT) as client:
            await call_until(client.get_signing_keys, lambda _: bool(fake.calls and other.calls))
            other.always = hang
            tally = await call_until(client.get_signing_keys, lambda tally: tally.good >= 300)
            # if servers were used in turn, as many calls would fail as succeed
            assert 0 < tally.bad < 60
            other.always = None
            before = len(other.calls)
            await call_until(client.get_signing_keys, lambda _: len(other.calls) > before + 50)


async def test_the_only_server_is_never_excluded(connect: Connect, fake: Fake):
    async with connect(fake.address, timeout=TIMEOUT) as client:
        await client.get_signing_keys()
        fake.always = hang
        await call_until(client.get_signing_keys, lambda tally: tally.bad >= 4 * CALLERS)
        fake.always = None
        await client.get_signing_keys(timeout=PATIENCE)


async def test_if_all_servers_hang_not_all_are_excluded(connect: Connect, fake: Fake):
    with Fake() as other:
        target = f"ipv4:{fake.address},{other.address}"
        async with connect(target, timeout=TIMEOUT) as client:
            await call_until(client.get_signing_keys, lambda _: bool(fake.calls and other.calls))
            fake.always = other.always = hang
            await call_until(client.get_signing_keys, lambda tally: tally.bad >= 4 * CALLERS)
            fake.always = other.always = None
            for _ in range(10):
                await client.get_signing_keys(timeout=PATIENCE)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two real servers on one store."""
    folder = tmp_path_factory.mktemp("servers")
    add_signing_key(folder / "keys")
    with (
        valkey_server(folder / "valkey") as valkey,
        server(valkey.url, folder / "keys") as one,
        server(valkey.url, folder / "keys") as other,
    ):
        yield one, other


@pytest.mark.parametrize("batching", [True, False], ids=["batches", "no batches"])
async def test_a_stopped_process_fails_few_validations(
    two: tuple[Server, Server], connect: Connect, batching: bool
):
    one, other = two
    target = f"ipv4:{one.address},{other.address}"
    async with connect(target, timeout=TIMEOUT, batching=batching) as client:
        issued = await client.issue_device("ada", timeout=PATIENCE)

        async def validate() -> None:
            found = await client.validate_session(issued.access_token, issued.device.device_id)
            assert found.active

        await call_until(validate, lambda tally: tally.good >= 200)
        other.process.send_signal(signal.SIGSTOP)
        try:
            tally = await call_until(validate, lambda tally: tally.good >= 500)
        finally:
            other.process.send_signal(signal.SIGCONT)
        assert tally.bad < 100
        one.process.send_signal(signal.SIGSTOP)
        try:  # the other server answers all calls that succeed now
            await call_until(validate, lambda tally: tally.good >= 50)
        finally:
            one.process.send_signal(signal.SIGCONT)


async def test_few_calls_fail_for_a_single_caller_that_calls_seldom(
    two: tuple[Server, Server], connect: Connect
):
    one, other = two
    target = f"ipv4:{one.address},{other.address}"
    async with connect(target, timeout=TIMEOUT) as client:
        issued = await client.issue_device("ada", timeout=PATIENCE)

        async def validate() -> None:
            await client.validate_session(issued.access_token, issued.device.device_id)

        seldom: dict[str, Any] = {"callers": 1, "pause": 0.05}
        await call_until(validate, lambda tally: tally.good >= 6, **seldom)
        other.process.send_signal(signal.SIGSTOP)
        try:
            tally = await call_until(validate, lambda tally: tally.good >= 40, **seldom)
        finally:
            other.process.send_signal(signal.SIGCONT)
        # if servers were used in turn, as many calls would fail as succeed
        assert 0 < tally.bad < 20
