"""Sends commands that change data in Redis. Each command runs to its end, and the server does not
run a command twice. The number of commands under way is limited, so that each command finds a free
connection.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from time import perf_counter
from typing import Any, TypeVar

from redis.exceptions import NoScriptError

from session_authority.runtime.tracing import store_round_trip
from session_authority.store.driver.connection import RedisClient
from session_authority.store.driver.errors import (
    EXCHANGE_FAILURES,
    REFUSED,
    doubts_primary,
    driver_errors_translated,
)
from session_authority.store.driver.read_paths import ReadPath
from session_authority.store.driver.replication import Replicas, run_and_wait
from session_authority.store.driver.shielding import Shield
from session_authority.store.driver.traffic import Traffic

T = TypeVar("T")

_SCRIPTS = files("session_authority.store").joinpath("scripts")
# The pause before a refused command is sent again. During the pause, the client can find the new
# primary.
_REFUSED_PAUSE_SECONDS = 0.05


class Script:
    """A Lua script that runs in Redis. The command that runs the script contains only the hash of
    the script's text. The text is sent only if the server does not know the hash. With
    `asks_first`, the text begins with the Lua functions in the file `before_writing.lua`.
    """

    def __init__(self, name: str, *, asks_first: bool = False) -> None:
        self._name = name
        names = ("before_writing", name) if asks_first else (name,)
        self.text = "".join(_SCRIPTS.joinpath(f"{name}.lua").read_text("utf-8") for name in names)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def command(
        self, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> tuple[str | bytes, ...]:
        """Returns the command EVALSHA that runs the script with these keys and arguments."""
        texts = (str(arg) if isinstance(arg, int) else arg for arg in args)
        return ("EVALSHA", self.sha, str(len(keys)), *keys, *texts)

    async def run(
        self, client: RedisClient, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """Runs the script, and returns its result."""
        return await self._sent(lambda command: client.execute_command(*command), keys, args)

    async def run_and_wait(
        self,
        client: RedisClient,
        keys: Sequence[str],
        args: Sequence[str | bytes | int],
        replicas: Replicas,
    ) -> tuple[Any, bool]:
        """Runs the script, and waits for replicas. Returns the result of the script, and True if
        enough replicas have the writes of the script.

        Args:
            client: The client of Redis.
            keys: The keys of the script. The slot of the first key determines the primary.
            args: The other arguments of the script.
            replicas: How many replicas must have the writes, and how long the wait may last.
        """
        return await self._sent(
            lambda command: run_and_wait(client, keys[0], command, replicas), keys, args
        )

    async def _sent(
        self,
        send: Callable[[Sequence[str | bytes | int]], Awaitable[T]],
        keys: Sequence[str],
        args: Sequence[str | bytes | int],
    ) -> T:
        rest = (len(keys), *keys, *args)
        try:
            with store_round_trip("EVALSHA", self._name):
                return await send(("EVALSHA", self.sha, *rest))
        except NoScriptError:  # the server has run nothing, so nothing is carried out twice
            with store_round_trip("EVAL", self._name):
                return await send(("EVAL", self.text, *rest))


class Writes:
    """Sends commands that change data in Redis. At most `max_connections` of these commands are
    under way at the same time. A command that fails raises StoreUnavailable in place of the
    driver's error.
    """

    def __init__(self, reads: ReadPath, max_connections: int, traffic: Traffic) -> None:
        self._reads = reads
        self._traffic = traffic
        self._waiting = 0
        traffic.count_waiting_in(self._count_waiting)
        # A pool without a free connection raises an error. So commands wait for this semaphore
        # before they take a connection. If many commands arrive at once, they wait and do not fail.
        self._connections = asyncio.Semaphore(max_connections)
        self._shield = Shield()
        self.settled = self._shield.settled

    async def run(self, command: Callable[[], Awaitable[T]]) -> T:
        """Runs a command to its end, even if the caller is cancelled. Returns the result of the
        command.
        """
        self._waiting += 1
        try:
            await self._connections.acquire()  # a caller that is cancelled here has sent nothing
        finally:
            self._waiting -= 1
        return await self._shield.run(self._guarded(command))

    def _count_waiting(self) -> int:
        return self._waiting

    async def _guarded(self, command: Callable[[], Awaitable[T]]) -> T:
        began_at = perf_counter()
        try:
            with driver_errors_translated():
                try:
                    return await self._sent(command)
                except EXCHANGE_FAILURES as error:
                    if doubts_primary(error):
                        await self._reads.hang_up()
                    raise
        finally:
            self._traffic.command_took(began_at)
            self._connections.release()

    async def _sent(self, command: Callable[[], Awaitable[T]]) -> T:
        try:
            return await command()
        except REFUSED:  # the server did not run the command, because the primary changes
            await self._reads.hang_up()
            await asyncio.sleep(_REFUSED_PAUSE_SECONDS)
            return await command()
