"""Sends reads that are not worth batching, one group of commands at a time: one connection is then
enough, however many callers read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from session_authority.store.driver.batcher import Command
from session_authority.store.driver.errors import driver_errors_translated, unavailable
from session_authority.store.driver.pipelines import ReadPipelines
from session_authority.store.driver.shielding import Shield


class Reads:
    """Groups of commands that change nothing."""

    def __init__(self, pipelines: ReadPipelines) -> None:
        self._pipelines = pipelines
        self._one_at_a_time = asyncio.Lock()
        self._shield = Shield()
        self.settled = self._shield.settled

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The answer of each command, or its exception. Raises what the driver raises where no
        answer came.
        """
        return await self._shield.run(self._exchange(commands))

    async def ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The answers of all commands. Raises StoreUnavailable if one is refused."""
        if not commands:
            return ()
        with driver_errors_translated():
            replies = await self.send(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise unavailable(reply)
        return replies

    async def _exchange(self, commands: Sequence[Command]) -> Sequence[Any]:
        async with self._one_at_a_time:
            return await self._pipelines.send(commands)
