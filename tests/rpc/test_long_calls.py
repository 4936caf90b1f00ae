"""A deadline is kept, can be extended, and does not hide a cancellation by another task."""

from __future__ import annotations

import asyncio

import pytest

from session_authority.rpc.long_calls import INTERVAL_SECONDS, Deadlines
from tests.rpc.harness import PATIENCE

SOON = [0.0, INTERVAL_SECONDS / 2, 3 * INTERVAL_SECONDS]


@pytest.mark.parametrize("seconds", SOON)
async def test_a_block_ends_at_its_deadline(seconds: float):
    with pytest.raises(TimeoutError), Deadlines().within(seconds, PATIENCE):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("seconds", SOON)
async def test_an_extended_deadline_applies(seconds: float):
    loop = asyncio.get_running_loop()
    began_at = loop.time()

    async def work() -> None:
        with Deadlines().within(seconds, 6 * INTERVAL_SECONDS) as deadline:
            deadline.extend()
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await work()
    assert loop.time() - began_at >= 6 * INTERVAL_SECONDS


async def test_a_finished_block_leaves_no_timer():
    deadlines = Deadlines()
    with deadlines.within(PATIENCE, PATIENCE):
        assert deadlines.long._young
    assert not deadlines.long._young | deadlines.long._old
    with pytest.raises(ValueError, match="its own"), deadlines.within(0, 0):
        raise ValueError("its own")
    await asyncio.sleep(0)  # A timer that was left behind would cancel here.


async def test_a_cancellation_by_another_task_is_no_timeout():
    """It is no timeout even when the deadline passes in the same moment."""
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


async def test_a_cancellation_at_the_deadline_is_no_timeout():
    entered = asyncio.Event()

    async def work() -> None:
        with Deadlines().within(PATIENCE, PATIENCE) as deadline:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                deadline._at = 0.0
                deadline._end()  # As the block's timer would.

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()
