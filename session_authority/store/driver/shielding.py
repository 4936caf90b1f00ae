"""Runs each exchange with Redis to its end, even if the caller is cancelled.

There are two reasons not to cancel an exchange. First, if an exchange were cancelled, its reply
would stay in the connection, and the next command would get this reply. Second, the driver can lose
a cancellation that arrives while the driver writes, and the cancelled caller would go on. A
cancellation is lost because of a fault of `asyncio.wait_for` before Python 3.12
(python/cpython#86296).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from session_authority.runtime.tasks import BackgroundTasks

T = TypeVar("T")


class Shield:
    """Runs exchanges in tasks of their own, so that a cancelled caller can't interrupt an exchange.
    `settled` waits until no exchange is under way.
    """

    def __init__(self) -> None:
        self._tasks = BackgroundTasks()
        self.settled = self._tasks.settled

    async def run(self, exchange: Coroutine[Any, Any, T]) -> T:
        """Runs an exchange, and returns its result. If the caller is cancelled, the exchange still
        runs to its end, and an error of the exchange is ignored.
        """
        task = self._tasks.start(exchange)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)
