"""Sends marks in batches. A mark is a small write to a record. A mark may be lost, and sending a
mark twice has the same effect as sending it once.

Batches save work: a write that is sent alone needs a connection, a lock and a dozen calls of the
driver. Marks that arrive while a batch is under way are sent together in the next batch. Only
background tasks wait for marks, so it is enough to send one batch at a time. The size of a batch is
limited, because commands of other connections wait while the server runs a batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from session_authority.runtime.tasks import BackgroundTasks
from session_authority.store.driver.questions import Command

# The largest number of marks in a batch. A server runs a mark in about 50 µs, so a batch delays
# other commands by less than 2 ms.
_MAX_BATCH = 32


class MarkWrites:
    """Gathers marks, and passes them in batches to the function `send`. `send` returns the answer
    or the exception of each command. `send` may send a command again if no answer came.
    """

    def __init__(self, send: Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]) -> None:
        self._send = send
        self._waiting: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._tasks = BackgroundTasks()
        self._is_sending = False
        self.settled = self._tasks.settled

    def run(self, command: Command) -> asyncio.Future[Any]:
        """Adds a mark to the next batch, and returns a future of the server's answer. The future
        fails with the server's error if the server refuses the command, and with an error of the
        driver if no answer comes.

        If a caller is cancelled while it awaits the future, its mark is dropped unless the mark was
        already sent. The cancellation of one caller does not affect other callers.
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
            self._is_sending = False  # no mark can arrive between `_next_batch` and here

    async def _send_batches(self) -> None:
        while batch := self._next_batch():
            replies: Sequence[Any]
            try:
                replies = await self._send([command for command, _ in batch])
            except Exception as error:  # noqa: BLE001 - all marks of the batch get the error
                replies = [error] * len(batch)
            for (_, answer), reply in zip(batch, replies, strict=True):
                if answer.done():
                    continue
                if isinstance(reply, Exception):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)

    def _next_batch(self) -> Sequence[tuple[Command, asyncio.Future[Any]]]:
        """Takes the next marks from the queue, and returns those whose callers still wait: at most
        32. Returns an empty list if no caller waits.
        """
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        while self._waiting and len(batch) < _MAX_BATCH:
            command, answer = self._waiting.popleft()
            if not answer.done():
                batch.append((command, answer))
        return batch
