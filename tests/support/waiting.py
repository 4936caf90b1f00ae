"""Waits for a condition, with a deadline and a description for the error."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable

import pytest


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Waits until the condition is true. Fails with the description if that takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


async def eventually(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Waits as `wait_for` does, in an event loop. The condition may be a coroutine function."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = condition()
                if await found if inspect.isawaitable(found) else found:
                    return
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"waited {seconds:g} s for {what}")
