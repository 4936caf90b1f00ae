"""A client makes no more calls at once than it has slots. The tests cover what waits for a slot, in
which order and how long, and that no call is lost.
"""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest

import session_authority_client as sa
from client_tests import service_harness
from client_tests.harness import PATIENCE, Connect, OnThreads, inner, until
from client_tests.service_harness import DEVICE, Service
from session_authority_client._async import calls
from session_authority_client._shared import batching
from session_authority_client._shared.limiter import Limiter

SINGLE, BATCH = "ValidateSession", "BatchValidateSessions"


@pytest.fixture(autouse=True)
async def enough_threads() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(300))


def limiter(client: Any) -> Limiter:
    found: Limiter = inner(client)._calls.limiter
    return found


def ask(client: Any, user: str, timeout: timedelta | None = None) -> asyncio.Task[sa.Validation]:
    return asyncio.create_task(client.validate_session(f"token of {user}", DEVICE, timeout=timeout))


def nothing_is_left(client: Any, slots: int) -> bool:
    found = limiter(client)
    return not found._queue and found._free == slots


@pytest.mark.parametrize("more", [{}, {"max_in_flight": 7}])
async def test_no_more_calls_are_under_way_than_there_are_slots(
    connect: Connect, scripted: tuple[Service, str], more: dict[str, int]
):
    server, address = scripted
    limit = more.get("max_in_flight", 64)
    async with connect(address, timeout=PATIENCE, batching=False, **more) as client:
        server.open.clear()
        tasks = [ask(client, f"user {number}") for number in range(90)]
        await until(lambda: server.at_once + len(limiter(client)._queue) == 90)
        assert server.at_once == limit
        server.open.set()
        found = await asyncio.gather(*tasks)
        assert [item.session and item.session.user_id for item in found] == [
            f"user {number}" for number in range(90)
        ]
        assert server.most_at_once == limit
        assert nothing_is_left(client, limit)


async def test_the_caller_that_has_waited_longest_is_first(
    connect: Connect, scripted: tuple[Service, str]
):
    server, address = scripted
    async with connect(address, timeout=PATIENCE, batching=False, max_in_flight=1) as client:
        server.open.clear()
        tasks = [ask(client, "user 0")]
        await until(lambda: server.at_once == 1)
        for number in range(1, 8):
            tasks.append(ask(client, f"user {number}"))
            await until(lambda: len(limiter(client)._queue) == number)  # noqa: B023
        server.open.set()
        await asyncio.gather(*tasks)
    assert [request.access_token for request in server.requests] == [
        f"token of user {number}" for number in range(8)
    ]


async def test_waiting_for_a_slot_counts_against_the_timeout_of_a_call(
    connect: Connect, scripted: tuple[Service, str]
):
    server, address = scripted
    loop, ten_seconds = asyncio.get_running_loop(), timedelta(seconds=10)
    async with connect(address, timeout=ten_seconds, batching=False, max_in_flight=1) as client:
        server.open.clear()
        first = ask(client, "first")
        await until(lambda: server.at_once == 1)
        patient = ask(client, "patient")
        await until(lambda: len(limiter(client)._queue) == 1)
        began = loop.time()
        with pytest.raises(
            sa.Unavailable, match="no place in time: 1 calls of this client are under way"
        ) as caught:
            await ask(client, "hasty", timedelta(milliseconds=100))
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: loop.time() - began > 0.75)
        server.open.set()
        assert all(await asyncio.gather(first, patient))
        assert [request.access_token for request in server.requests] == [
            "token of first",
            "token of patient",
        ]
        assert nothing_is_left(client, 1)
    _, _, left = server.calls[1]
    assert left <= 1.05 * (10 - 0.75)  # gRPC rounds the time up


async def test_a_caller_that_is_cancelled_while_it_waits_leaves_nothing_behind(
    scripted: tuple[Service, str],
):
    server, address = scripted
    async with sa.AsyncSessionAuthority(
        address, timeout=PATIENCE, batching=False, max_in_flight=1
    ) as client:
        server.open.clear()
        tasks = [ask(client, f"user {number}") for number in range(4)]
        await until(lambda: server.at_once == 1)
        for gone in tasks[1:3]:
            gone.cancel()
        await asyncio.wait(tasks[1:3])
        assert len(limiter(client)._queue) == 1
        server.open.set()
        assert all(await asyncio.gather(tasks[0], tasks[3]))
        assert [request.access_token for request in server.requests] == [
            "token of user 0",
            "token of user 3",
        ]
        assert nothing_is_left(client, 1)


async def test_a_caller_that_is_cancelled_as_it_gets_a_slot_gives_the_slot_back(
    scripted: tuple[Service, str],
):
    async with sa.AsyncSessionAuthority(scripted[1], timeout=PATIENCE, max_in_flight=1) as client:
        assert limiter(client).try_acquire()
        gone, next_one = (
            ask(client, "gone"),
            asyncio.create_task(client.validate_sessions([("t", "d")])),
        )
        await until(lambda: len(limiter(client)._queue) == 2)
        limiter(client).release()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await next_one
        assert nothing_is_left(client, 1)


@pytest.mark.parametrize("client_kind", [sa.AsyncSessionAuthority, OnThreads])
async def test_a_batch_needs_one_slot_and_holds_all_callers_that_came_before_its_turn(
    scripted: tuple[Service, str], client_kind: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batching, "MAX_WAIT_SECONDS", 0.01)
    server, address = scripted
    async with client_kind(address, timeout=PATIENCE, max_in_flight=1) as client:
        line = inner(client)._batch_queue
        server.open.clear()
        tasks = [ask(client, "first")]
        await until(lambda: server.at_once == 1)
        tasks += [ask(client, f"user {number}") for number in range(10)]
        # These callers wait no longer for the first call, but there is no free slot.
        await until(lambda: len(limiter(client)._queue) == 1)
        tasks += [ask(client, f"user {number}") for number in range(10, 20)]
        await until(lambda: len(line._queue) == 20)
        with pytest.raises(sa.Unavailable, match="no place in time"):
            await ask(client, "hasty", timedelta(milliseconds=100))
        server.open.set()
        assert all(await asyncio.gather(*tasks))
        assert server.methods() == [(SINGLE, 1), (BATCH, 20)]
        assert server.most_at_once == 1
        await until(lambda: nothing_is_left(client, 1))


async def test_more_callers_than_a_batch_holds_are_sent_in_several_batches(
    scripted: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batching, "MAX_BATCH_ITEMS", 3)
    server, address = scripted
    async with sa.AsyncSessionAuthority(address, timeout=PATIENCE, max_in_flight=2) as client:
        server.open.clear()
        tasks = [ask(client, "first")]
        await until(lambda: server.at_once == 1)
        assert limiter(client).try_acquire()
        tasks += [ask(client, f"user {number}") for number in range(7)]
        await until(lambda: len(limiter(client)._queue) == 1)
        limiter(client).release()
        await until(lambda: server.at_once == 2 and len(limiter(client)._queue) == 1)
        server.open.set()
        assert all(await asyncio.gather(*tasks))
        counts = [count for _, count in server.methods()]
        assert counts[:2] == [1, 3]
        assert sorted(counts[2:]) == [1, 3]  # both are sent together, and may arrive in any order
        assert server.most_at_once == 2


def test_a_caller_that_comes_after_the_close_gets_an_error():
    told: list[str] = []

    def granted(error: sa.Unavailable | None) -> bool:
        told.append(str(error))
        return False

    found = Limiter(1)
    assert found.try_acquire()
    found.close()
    assert not found.acquire_or_queue(granted)
    assert told == ["the client is closed"]


async def test_closing_a_client_fails_all_callers_that_wait_for_a_slot(
    connect: Connect, scripted: tuple[Service, str]
):
    server, address = scripted
    async with connect(address, timeout=PATIENCE, max_in_flight=1) as client:
        server.open.clear()
        tasks = [ask(client, f"user {number}") for number in range(5)]
        tasks += [asyncio.create_task(client.validate_sessions([("t", "d")])) for _ in range(5)]
        await until(lambda: server.at_once == 1 and len(limiter(client)._queue) >= 5)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [(type(outcome), str(outcome)) for outcome in outcomes] == [
        (sa.Unavailable, "the client is closed")
    ] * 10
    assert len({id(outcome) for outcome in outcomes}) == 10
    assert len(server.calls) == 1


async def test_a_watch_needs_no_slot(connect: Connect, scripted: tuple[Service, str]):
    async with connect(scripted[1], timeout=PATIENCE, max_in_flight=1) as client:
        watch = aiter(client.watch_events())
        assert (await anext(watch)).cursor
        assert await client.validate_session("token of ada", DEVICE)
        await watch.aclose()


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1, ValueError), ("8", TypeError), (None, TypeError)]
)
async def test_a_client_without_slots_is_refused(
    connect: Connect, value: Any, error: type[Exception]
):
    with pytest.raises(error, match="max_in_flight"):
        connect("127.0.0.1:1", max_in_flight=value)


@pytest.mark.parametrize("batched", [False, True])
async def test_no_call_is_lost_among_many_callers_that_give_up(connect: Connect, batched: bool):
    """The server lets a connection make 100 calls at once, as ours does. Hundreds of callers are
    cancelled, or have too little time.
    """
    chance = random.Random(7)

    async def one(client: Any, turn: int) -> str:
        short = (
            timedelta(milliseconds=chance.choice((1, 2, 5, 20))) if chance.random() < 0.5 else None
        )
        task = ask(client, f"user {turn}", short)
        if chance.random() < 0.3:
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            return "answered" if await task else "wrong"
        except asyncio.CancelledError:
            return "cancelled"
        except sa.Unavailable:
            return "late"

    with service_harness.running(
        [("grpc.max_concurrent_streams", 100), ("grpc.http2.max_deallocating_streams", 1000)]
    ) as found:
        server, address = found
        server.answer_delay = lambda: chance.random() / 100
        async with connect(address, timeout=PATIENCE, batching=batched) as client:
            async with asyncio.timeout(3 * PATIENCE.total_seconds()):
                outcomes = await asyncio.gather(*(one(client, turn) for turn in range(400)))
                await until(lambda: nothing_is_left(client, 64))
            assert set(outcomes) == {"answered", "cancelled", "late"}
            assert await client.validate_session("token of ada", DEVICE)


class Lost:
    """A call that never ends by itself."""

    def __init__(self, *_: object, **__: object) -> None:
        self._over = asyncio.get_running_loop().create_future()

    def __await__(self) -> Any:
        return self._over.__await__()

    def cancel(self) -> None:
        self._over.cancel()


async def test_a_call_that_grpc_has_lost_still_ends(
    scripted: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(calls, "_LOST_AFTER_SECONDS", 0)
    async with sa.AsyncSessionAuthority(
        scripted[1], timeout=timedelta(seconds=0.1), max_in_flight=1
    ) as client:
        monkeypatch.setitem(client._calls._unary, "GetSigningKeys", Lost)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            with pytest.raises(sa.Unavailable, match="no answer in time"):
                await client.get_signing_keys()
        assert nothing_is_left(client, 1)
