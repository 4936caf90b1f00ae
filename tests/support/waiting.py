"""Waits for what is eventual, with a deadline and a name for what did not come."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable

import pytest


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Waits until the condition is true; fails, naming what it waited for, if that takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


async def eventually(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """The same in an event loop, where the condition may be a coroutine function too."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = condition()
                if await found if inspect.isawaitable(found) else found:
                    return
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"waited {seconds:g} s for {what}")
