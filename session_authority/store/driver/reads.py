"""Sends reads that are not worth batching with others, one group of commands at a time. So one
connection is enough for any number of callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from session_authority.store.driver.errors import unavailable
from session_authority.store.driver.questions import Command
from session_authority.store.driver.read_paths import ReadPath
from session_authority.store.driver.shielding import Shield


class Reads:
    """Sends groups of commands that change nothing, one group at a time."""

    def __init__(self, path: ReadPath) -> None:
        self._path = path
        self._one_at_a_time = asyncio.Lock()
        self._shield = Shield()
        self.settled = self._shield.settled

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Returns the answer to each command, or its exception."""
        await self._one_at_a_time.acquire()  # a caller that is cancelled here has sent nothing
        return await self._shield.run(self._exchange(commands))

    async def ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Returns the answers to all commands. Raises StoreUnavailable if the server refuses one of
        them, or does not answer.
        """
        if not commands:
            return ()
        replies = await self.send(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise unavailable(reply)
        return replies

    async def _exchange(self, commands: Sequence[Command]) -> Sequence[Any]:
        try:
            questions = [self._path.question(*command) for command in commands]
            return await self._path.ask_many(questions, apart=True)
        finally:
            self._one_at_a_time.release()
