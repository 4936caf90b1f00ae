"""A deadline is kept, is extended, and hides no cancellation by another. Calls that take long are
found, unless all do.
"""

from __future__ import annotations

import asyncio

import pytest

from session_authority.rpc import long_calls
from session_authority.rpc.long_calls import (
    INTERVAL_SECONDS,
    MAX_LOOKS_PUT_OFF,
    MAX_UNFOUND_SECONDS,
    Deadlines,
    LongCalls,
)
from tests.rpc.harness import PATIENCE

SOON = [0.0, INTERVAL_SECONDS / 2, 3 * INTERVAL_SECONDS, 2 * MAX_UNFOUND_SECONDS]


@pytest.mark.parametrize("seconds", SOON)
async def test_a_block_ends_when_its_time_is_over(seconds: float):
    with pytest.raises(TimeoutError), Deadlines().within(seconds, PATIENCE):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("seconds", SOON)
async def test_an_extended_time_applies(seconds: float):
    loop = asyncio.get_running_loop()
    began_at = loop.time()

    async def work() -> None:
        with Deadlines().within(seconds, 6 * INTERVAL_SECONDS) as deadline:
            deadline.extend()
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await work()
    assert loop.time() - began_at >= 6 * INTERVAL_SECONDS


async def test_a_block_that_is_over_leaves_nothing():
    deadlines = Deadlines()
    with deadlines.within(PATIENCE, PATIENCE):
        assert deadlines.long._young
    assert not deadlines.long._young | deadlines.long._old
    with pytest.raises(ValueError, match="its own"), deadlines.within(0, 0):
        raise ValueError("its own")
    await asyncio.sleep(0)  # a timer that was left would cancel here


async def test_a_cancellation_by_another_is_no_timeout():
    """Not even at the moment when the time is over too."""
    deadlines, entered = Deadlines(), asyncio.Event()

    async def work() -> None:
        with deadlines.within(PATIENCE, PATIENCE) as deadline:
            entered.set()
            deadline._at = 0.0
            deadline.set_timer()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()


async def test_a_cancellation_while_the_time_ends_is_no_timeout():
    entered = asyncio.Event()

    async def work() -> None:
        with Deadlines().within(PATIENCE, PATIENCE) as deadline:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                deadline._at = 0.0
                deadline._end()  # as its timer would

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()


class Looks:
    """Calls under way, by number, which are looked at when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, busy: bool) -> None:
        monkeypatch.setattr(long_calls.LongCalls, "_set_timer", lambda _: None)
        monkeypatch.setattr(long_calls.LongCalls, "_is_busy", lambda _: busy)
        self.found: list[int] = []
        self._calls = LongCalls(self.found.append)

    def add(self, *calls: int) -> None:
        for call in calls:
            self._calls.add(call)

    def end(self, *calls: int) -> None:
        for call in calls:
            self._calls.discard(call)

    def look(self, *, end: range = range(0)) -> None:
        self.end(*end)
        self._calls._look()


async def test_a_call_among_quicker_ones_is_found_at_the_second_look(
    monkeypatch: pytest.MonkeyPatch,
):
    looks = Looks(monkeypatch, busy=True)
    looks.add(0)
    for number in (10, 20):
        assert looks.found == []
        looks.add(*range(number, number + 5))
        looks.look(end=range(number, number + 5))
    assert looks.found == [0]


async def test_calls_that_are_all_slow_are_not_found_while_the_process_is_busy(
    monkeypatch: pytest.MonkeyPatch,
):
    looks = Looks(monkeypatch, busy=True)
    looks.add(*range(30))
    for number in range(0, 300, 10):  # each is there for three looks
        looks.look(end=range(number, number + 10))
        looks.add(*range(number + 30, number + 40))
    assert looks.found == []


async def test_a_call_that_hangs_among_slow_ones_is_found_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
):
    looks = Looks(monkeypatch, busy=True)
    looks.add(*range(100))
    for number in range(1, 2 * (1 + MAX_LOOKS_PUT_OFF)):
        looks.look(end=range(number, number + 1))
        assert looks.found == []
    looks.look(end=range(20, 21))
    assert 0 in looks.found


@pytest.mark.parametrize(
    ("busy", "ended"), [(False, range(90, 91)), (True, range(0))], ids=["idle", "all wait"]
)
async def test_calls_that_do_not_wait_for_the_process_are_found_at_once(
    monkeypatch: pytest.MonkeyPatch, *, busy: bool, ended: range
):
    looks = Looks(monkeypatch, busy=busy)
    looks.add(*range(100))
    looks.look(end=ended)
    looks.look(end=ended)
    assert sorted(looks.found) == [number for number in range(100) if number not in ended]


async def test_a_thread_is_busy_that_uses_a_part_of_the_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(long_calls, "INTERVAL_SECONDS", PATIENCE)
    used = 7.0
    calls: LongCalls[int] = LongCalls(lambda _: None, lambda: used)
    calls.add(1)
    for more, busy in ((0.0, False), (0.2 * PATIENCE, False), (0.3 * PATIENCE, True)):
        used = 7.0 + more
        assert calls._is_busy() is busy
    assert calls._timer is not None
    calls._timer.cancel()
