"""Single flight: tasks or threads that ask for the same thing at the same time share one call."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from session_authority_client._async.single_flight import AsyncSingleFlight
from session_authority_client._sync.single_flight import SingleFlight
from tests.support.waiting import wait_for


def nothing_is_left(flights: Any) -> bool:
    return not flights._open and not flights._begun


def waiting_threads(flights: SingleFlight[int]) -> int:
    """How many threads wait for the running call or for the next one."""
    conditions: list[Any] = [
        flight._future._condition for flight in (*flights._open.values(), *flights._begun.values())
    ]
    return sum(len(condition._waiters) for condition in conditions)


async def test_tasks_that_come_before_a_call_is_sent_share_it():
    flights: AsyncSingleFlight[int] = AsyncSingleFlight(late=False)
    asked, gate, both_asked = 0, asyncio.Event(), asyncio.Event()

    async def ask() -> int:
        nonlocal asked
        asked += 1
        mine = asked
        if asked == 2:
            both_asked.set()
        await gate.wait()
        return mine

    first = [asyncio.create_task(flights.share("k", ask)) for _ in range(500)]
    other = asyncio.create_task(flights.share("other", ask))
    await both_asked.wait()
    late = [asyncio.create_task(flights.share("k", ask)) for _ in range(500)]
    late[0].cancel()  # a cancelled task does not affect the other tasks
    await asyncio.sleep(0)
    gate.set()
    assert {await task for task in first} == {1}
    assert await other == 2
    assert {await task for task in late[1:]} == {3}
    assert nothing_is_left(flights)


async def test_tasks_share_a_failure_and_the_next_task_calls_again():
    flights: AsyncSingleFlight[int] = AsyncSingleFlight(late=False)

    async def fail() -> int:
        raise ValueError("away")

    async def succeed() -> int:
        return 1

    results = await asyncio.gather(
        *(flights.share("k", fail) for _ in range(3)), return_exceptions=True
    )
    assert [str(result) for result in results] == ["away"] * 3
    assert await flights.share("k", succeed) == 1
    assert nothing_is_left(flights)


async def test_a_failure_that_no_task_waits_for_is_not_reported():
    flights: AsyncSingleFlight[int] = AsyncSingleFlight(late=False)
    loop, asked, faults = asyncio.get_running_loop(), asyncio.Event(), []
    loop.set_exception_handler(lambda _, context: faults.append(context))

    async def fail() -> int:
        asked.set()
        await asyncio.sleep(0)
        raise ValueError("away")

    waiting = asyncio.create_task(flights.share("k", fail))
    await asked.wait()
    waiting.cancel()
    mine = {asyncio.current_task()}
    await asyncio.wait(asyncio.all_tasks() - mine)
    await asyncio.gather(waiting, return_exceptions=True)
    assert nothing_is_left(flights)
    del waiting
    gc.collect()
    assert faults == []


def test_threads_that_come_during_a_call_share_the_next_call():
    flights: SingleFlight[int] = SingleFlight(late=False)
    lock = threading.Lock()
    asked: list[None] = []
    gate, under_way = threading.Event(), threading.Event()

    def ask() -> int:
        with lock:
            asked.append(None)
            mine = len(asked)
        under_way.set()
        assert gate.wait(30)
        return mine

    with ThreadPoolExecutor(41) as pool:
        first = pool.submit(flights.share, "k", ask)
        assert under_way.wait(30)
        late = [pool.submit(flights.share, "k", ask) for _ in range(40)]
        wait_for(lambda: waiting_threads(flights) == 40, "all to wait for the next call")
        gate.set()
        assert first.result() == 1
        assert {future.result() for future in late} == {2}
    assert nothing_is_left(flights)


def test_threads_get_the_failure_of_their_call():
    flights: SingleFlight[int] = SingleFlight(late=False)

    def fail() -> int:
        raise ValueError("away")

    for _ in range(2):
        with pytest.raises(ValueError, match="away"):
            flights.share("k", fail)
    assert nothing_is_left(flights)
