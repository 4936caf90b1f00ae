"""Sends marks in batches. A mark is a small write that may be lost, and that does nothing if it is
sent twice.

A write that is sent alone needs a connection, a lock and a dozen calls of the driver. Marks that
arrive while a batch is under way are sent together as the next batch. Only background tasks wait
for marks, so one batch at a time is enough. A batch is short, because the server runs a batch
without a pause.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from session_authority.runtime.tasks import BackgroundTasks
from session_authority.store.driver.questions import Command

# A server carries out a commit in about 50 µs, so a batch delays other commands by at most 2 ms.
_MAX_BATCH = 32


class MarkWrites:
    """Gathers writes for the function `send`, which returns the answer to each command or its
    exception. `send` may send commands again if no answer came.
    """

    def __init__(self, send: Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]) -> None:
        self._send = send
        self._waiting: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._tasks = BackgroundTasks()
        self._is_sending = False
        self.settled = self._tasks.settled

    def run(self, command: Command) -> asyncio.Future[Any]:
        """Returns the future answer to a command. Awaiting the future raises the error with which
        the server refused, or the driver's error if no answer came.

        If a caller is cancelled, other callers are not affected. The write of this caller is
        dropped if it has not been sent yet.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if not self._is_sending:
            self._is_sending = True
            self._tasks.start(self._send_all())
        return answer

    async def _send_all(self) -> None:
        try:
            await self._send_batches()
        finally:
            self._is_sending = False  # in the event-loop step that found no more writes

    async def _send_batches(self) -> None:
        while batch := self._next_batch():
            replies: Sequence[Any]
            try:
                replies = await self._send([command for command, _ in batch])
            except Exception as error:  # noqa: BLE001 - all writes of the batch get the error
                replies = [error] * len(batch)
            for (_, answer), reply in zip(batch, replies, strict=True):
                if answer.done():
                    continue
                if isinstance(reply, Exception):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)

    def _next_batch(self) -> Sequence[tuple[Command, asyncio.Future[Any]]]:
        """Returns the first writes whose callers still wait. The list is empty if no caller waits
        any more.
        """
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        while self._waiting and len(batch) < _MAX_BATCH:
            command, answer = self._waiting.popleft()
            if not answer.done():
                batch.append((command, answer))
        return batch
