"""Runs exchanges with the server to their end, even if whoever asked has gone.

A cancelled exchange would leave its reply behind in the connection. And the driver can lose a
cancellation that hits it while it writes, so that whoever was cancelled would go on
(`asyncio.wait_for` before Python 3.12, python/cpython#86296).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Unbroken:
    """Exchanges under way."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, exchange: Coroutine[Any, Any, T]) -> T:
        """What the exchange comes to."""
        task = asyncio.ensure_future(exchange)
        self._running.add(task)
        task.add_done_callback(self._settled)
        return await asyncio.shield(task)

    async def settled(self) -> None:
        """Waits for everything that was sent."""
        while self._running:
            await asyncio.wait(self._running)

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have gone; then this keeps asyncio from complaining
