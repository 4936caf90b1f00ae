"""How what changes something is sent: to its end, once, and by no more at a time than there are
connections for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from session_authority.store.complaints import REFUSED, unavailable
from session_authority.store.connection import Client
from session_authority.store.lines import Lines
from session_authority.store.unbroken import Unbroken

T = TypeVar("T")


class Script:
    """A Lua script, run by its hash, and sent whole where the server does not have it."""

    def __init__(self, name: str) -> None:
        self.text = files(__package__).joinpath("scripts", f"{name}.lua").read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def run(
        self, client: Client, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """What the script returns."""
        try:
            return await client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:  # refused before anything ran, so sending it again does nothing twice
            return await client.execute_command("EVAL", self.text, len(keys), *keys, *args)


class Mutations:
    """Sends commands that change something. Raises StoreUnavailable for whatever the driver
    raises.
    """

    def __init__(self, lines: Lines, most: int) -> None:
        self._lines = lines
        # The pools raise when they are empty; waiting here instead keeps a burst from failing.
        self._connections = asyncio.Semaphore(most)
        self._unbroken = Unbroken()

    async def run(self, command: Callable[[], Awaitable[T]]) -> T:
        """What a command comes to. It is run to its end, even if whoever asked has gone."""
        await self._connections.acquire()  # who gives up here has sent nothing, and nothing will be
        return await self._unbroken.run(self._guarded(command))

    async def settled(self) -> None:
        """Waits for everything that was sent."""
        await self._unbroken.settled()

    async def _guarded(self, command: Callable[[], Awaitable[T]]) -> T:
        try:
            try:
                return await command()
            except REFUSED:  # not carried out: the primary has just moved
                await self._lines.hang_up()
                await asyncio.sleep(0.05)
                return await command()
        except (RedisError, OSError, TimeoutError) as error:
            if isinstance(error, (ReadOnlyError, Disconnected)):
                await self._lines.hang_up()
            raise unavailable(error) from None
        finally:
            self._connections.release()
