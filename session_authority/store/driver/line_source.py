"""Makes the lines to one server, from connections of the driver's pool, and gives the connections
back.

A new line first proves that the server takes writes: a replica would answer reads as well. So does
a primary that lacks its replicas or was told to stand aside, and which may have been replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError

from session_authority.runtime.tasks import BackgroundTasks
from session_authority.store.driver.errors import (
    EXCHANGE_FAILURES,
    FILES_NOT_WRITTEN,
    WritesRefused,
    code_of,
)
from session_authority.store.driver.questions import Command
from session_authority.store.driver.read_line import Answered, Lost, ReadLine


class Connections(Protocol):
    """The driver's pool of one server."""

    async def get_connection(self) -> AbstractConnection:
        """A connection that is ready. Raises what the driver raises."""

    async def release(self, connection: AbstractConnection) -> None:
        """Takes a connection back, which is hung up."""

    @property
    def _available_connections(self) -> Sequence[AbstractConnection]:
        """The connections that nobody uses."""


class LineSource:
    """Makes lines. `proof` is a command that writes nothing, but is refused where writes are."""

    def __init__(self, connections: Connections, proof: Command | None) -> None:
        self._connections = connections
        self._proof = proof
        self._tasks = BackgroundTasks()
        self.settled = self._tasks.settled
        self.held = 0
        """How many connections of the pool are open, or about to be."""

    def reserve(self) -> None:
        """Keeps a connection for a line that is about to be made."""
        self.held += 1

    async def make(self, answered: Answered, lost: Lost, then: Callable[[], None]) -> ReadLine:
        """A line that is proven, on a connection that was reserved. If it can't be made, `then` is
        called once there is room for another. Raises WritesRefused, and what the driver raises.
        """
        try:
            connection = await self._connections.get_connection()
        except BaseException:
            self.held -= 1
            raise
        try:
            await self._prove(connection)
            return ReadLine(connection, answered, lost)
        except BaseException:
            self._tasks.start(self._give_back(connection, then))
            raise

    def give_back(self, line: ReadLine, then: Callable[[], None]) -> None:
        """Gives the connection of a line back that is hung up; then there is room for another."""
        self._tasks.start(self._give_back(line.connection, then))

    async def hang_up_free(self) -> None:
        """Hangs up the connections of the pool that nobody uses. No other task runs before all are:
        the pool might hand out one that is about to be hung up.
        """
        for connection in [*self._connections._available_connections]:  # noqa: SLF001
            with suppress(*EXCHANGE_FAILURES):  # they are not to be used anyway
                await connection.disconnect(nowait=True)

    def hang_up_free_soon(self) -> None:
        """The same in the background."""
        self._tasks.start(self.hang_up_free())

    async def _prove(self, connection: AbstractConnection) -> None:
        if self._proof is not None:
            proof = connection.pack_command(*self._proof)
            await connection.send_packed_command(proof, check_health=False)
            try:
                await connection.read_response()
            except ResponseError as error:
                if code_of(error) != FILES_NOT_WRITTEN:
                    raise WritesRefused(error) from None
        if await connection.can_read():
            raise Disconnected("it said something unasked")

    async def _give_back(self, connection: AbstractConnection, then: Callable[[], None]) -> None:
        try:
            await connection.disconnect(nowait=True)
            await self._connections.release(connection)
        finally:
            self.held -= 1
        then()
