"""Runs exchanges with the server to their end, even if the caller is cancelled.

If an exchange were cancelled, its reply would stay in the connection, and the next command would
read it. The driver can also lose a cancellation that arrives while it writes. Then the cancelled
caller would go on. See `asyncio.wait_for` before Python 3.12, python/cpython#86296.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from session_authority.runtime.tasks import BackgroundTasks

T = TypeVar("T")


class Shield:
    """Runs exchanges that a cancelled caller can't interrupt, and knows which of them are under
    way.
    """

    def __init__(self) -> None:
        self._tasks = BackgroundTasks()
        self.settled = self._tasks.settled

    async def run(self, exchange: Coroutine[Any, Any, T]) -> T:
        """Returns the result of the exchange. If the caller is cancelled, the exchange still runs
        to its end, and its failure is not reported.
        """
        task = self._tasks.start(exchange)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)
