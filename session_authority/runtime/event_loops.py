"""Runs the event loop of a server's process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


class EventLoop(Enum):
    """The event loops between which an operator can choose. An iteration of uvloop costs far less
    CPU time than an iteration of asyncio's own loop.
    """

    UVLOOP = "uvloop"
    ASYNCIO = "asyncio"


def run(main: Coroutine[Any, Any, T], event_loop: EventLoop) -> T:
    """Runs the coroutine `main` on a new event loop, as `asyncio.run` does, and returns the result
    of the coroutine.

    Code that measures time must read a clock of the module `time`, such as `time.monotonic`. Code
    that measures time must not read `loop.time`, because uvloop updates the value of `loop.time`
    only once in each iteration of the loop. After code has blocked the loop, `loop.time` returns a
    time that is too early.
    """
    if event_loop is EventLoop.ASYNCIO:
        return asyncio.run(main)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
