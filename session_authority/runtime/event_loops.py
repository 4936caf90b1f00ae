"""Runs the event loop of a server's process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


class EventLoop(Enum):
    """The event loops to choose from. A turn of uvloop's loop costs far less than a turn of
    asyncio's own loop. An operator can choose asyncio's loop instead.
    """

    UVLOOP = "uvloop"
    ASYNCIO = "asyncio"


def run(main: Coroutine[Any, Any, T], event_loop: EventLoop) -> T:
    """Runs the coroutine on a new loop, as `asyncio.run` does, and returns its result.

    Code that measures time reads a clock of the module `time`, such as `time.monotonic`, and never
    `loop.time`. The time of `uvloop.Loop.time` stands still during a turn of the loop, so this time
    is late after a stall.
    """
    if event_loop is EventLoop.ASYNCIO:
        return asyncio.run(main)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
