"""Sends concurrent reads together, as one pipeline.

Reads that arrive while a pipeline is free leave at the end of the same turn of the event loop.
While all pipelines are busy, reads gather and leave together when one gets free. A caller that is
cancelled or times out does not disturb the others. A read never joins a batch that was already
sent, so its answer is never older than its question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from session_authority.runtime.tasks import BackgroundTasks

Command = tuple[str | bytes, ...]
# Sends commands together; the answer of each, or its exception.
Send = Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]


class Batcher:
    """Gathers commands and sends up to `max_batch` at once on up to `pipelines` connections."""

    def __init__(self, send: Send, *, pipelines: int = 4, max_batch: int = 256) -> None:
        self._send = send
        self._free_pipelines = pipelines
        self._max_batch = max_batch
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._scheduled = False
        self._tasks = BackgroundTasks()
        self.drained = self._tasks.settled

    def read(self, *command: str | bytes) -> asyncio.Future[Any]:
        """The future answer to a command that changes nothing. Awaiting it raises what the store
        answered with.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, answer))
        if not self._scheduled and self._free_pipelines:
            self._scheduled = True
            loop.call_soon(self._flush)
        return answer

    def _flush(self) -> None:
        self._scheduled = False
        while self._waiting and self._free_pipelines:
            batch, self._waiting = (
                self._waiting[: self._max_batch],
                self._waiting[self._max_batch :],
            )
            # A caller that gave up before the batch left needs no answer.
            batch = [(command, answer) for command, answer in batch if not answer.done()]
            if batch:
                self._free_pipelines -= 1
                self._tasks.start(self._exchange(batch))

    async def _exchange(self, batch: Sequence[tuple[Command, asyncio.Future[Any]]]) -> None:
        replies: Sequence[Any]
        try:
            replies = await self._send([command for command, _ in batch])
        except Exception as error:  # noqa: BLE001
            # Whatever it is, every one of the askers must learn of it.
            replies = [error] * len(batch)
        finally:
            self._free_pipelines += 1
        for (_, answer), reply in zip(batch, replies, strict=True):
            if answer.done():
                continue
            if isinstance(reply, Exception):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)
        self._flush()
