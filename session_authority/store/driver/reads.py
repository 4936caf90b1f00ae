"""Sends groups of read commands, one group at a time. A group is not combined with the reads of
other callers. Because only one group is under way, one connection is enough for any number of
callers.
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
    """Sends groups of commands that change nothing. Each object of this class sends one group at a
    time.
    """

    def __init__(self, path: ReadPath) -> None:
        self._path = path
        self._one_at_a_time = asyncio.Lock()
        self._shield = Shield()
        self.settled = self._shield.settled

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Sends a group of commands. Returns a list with the answer or the exception of each
        command.
        """
        await self._one_at_a_time.acquire()  # a caller that is cancelled here has sent nothing
        return await self._shield.run(self._exchange(commands))

    async def ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Sends a group of commands, and returns their answers. Raises StoreUnavailable if the
        server refuses one of the commands or does not answer it.
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
