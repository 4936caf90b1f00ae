"""Sends small writes together that do nothing if they are sent twice, and that may be lost.

A write of its own takes a connection, a lock and a dozen calls of the driver. Writes that come
while others are under way gather here, and leave as one batch. Nobody waits for them but background
tasks, so that one batch at a time is enough, and a batch is short: the server runs it in one go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from session_authority.runtime.tasks import BackgroundTasks
from session_authority.store.driver.questions import Command

# A commit takes a server about 50 µs: others wait for at most 2 ms.
_MAX_BATCH = 32


class MarkWrites:
    """Gathers writes for `send`, which gives the answer to each command, or its exception, and
    which may send commands again where no answer came.
    """

    def __init__(self, send: Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]) -> None:
        self._send = send
        self._waiting: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._tasks = BackgroundTasks()
        self._is_sending = False
        self.settled = self._tasks.settled

    def run(self, command: Command) -> asyncio.Future[Any]:
        """The future answer. Awaiting it raises what the server refused with, or what the driver
        raises where no answer came. A caller that is cancelled disturbs nobody: a write that has
        not left yet is not sent.
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
            self._is_sending = False  # in the same step in which nothing waited any more

    async def _send_batches(self) -> None:
        while batch := self._next_batch():
            replies: Sequence[Any]
            try:
                replies = await self._send([command for command, _ in batch])
            except Exception as error:  # noqa: BLE001 - whatever it is, all of the batch have it
                replies = [error] * len(batch)
            for (_, answer), reply in zip(batch, replies, strict=True):
                if answer.done():
                    continue
                if isinstance(reply, Exception):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)

    def _next_batch(self) -> Sequence[tuple[Command, asyncio.Future[Any]]]:
        """The first writes that still have a caller. Nothing waits any more if there is none."""
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        while self._waiting and len(batch) < _MAX_BATCH:
            command, answer = self._waiting.popleft()
            if not answer.done():
                batch.append((command, answer))
        return batch
