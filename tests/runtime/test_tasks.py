"""Background tasks: the shutdown waits for them, and their failures are always reported."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable
from typing import Any

import pytest

from session_authority.runtime.tasks import BackgroundTasks, repeat
from tests.support.waiting import eventually


@pytest.fixture
async def reported() -> list[dict[str, Any]]:
    """The errors that the event loop reports because nobody awaited them."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


async def fail() -> None:
    raise KeyError("lost")


async def test_a_failure_that_nobody_awaits_is_reported(reported: list[dict[str, Any]]):
    tasks = BackgroundTasks()
    tasks.start(fail())
    await tasks.settled()
    gc.collect()
    assert [type(context["exception"]) for context in reported] == [KeyError]


async def test_tasks_that_start_during_the_wait_are_waited_for_too():
    tasks, done = BackgroundTasks(), list[str]()

    async def first() -> None:
        tasks.start(second())
        done.append("first")

    async def second() -> None:
        await asyncio.sleep(0)
        done.append("second")

    tasks.start(first())
    await tasks.settled()
    assert done == ["first", "second"]
    assert not tasks


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_repeated_work_goes_on_after_a_failure(
    asynchronous: bool, logged: list[dict[str, Any]]
):
    calls = 0

    def work() -> Awaitable[None] | None:
        nonlocal calls
        calls += 1
        if asynchronous:
            return fail()
        raise KeyError("lost")

    task = asyncio.create_task(repeat(work, 0.001, "look_failed"))
    await eventually(lambda: calls >= 3, "the work to be repeated")
    task.cancel()
    await asyncio.wait([task])
    assert {entry["event"] for entry in logged} == {"look_failed"}
