"""Opens and closes the read lines to one server. A read line takes a connection from the driver's
pool. When the line is closed, the connection goes back to the pool.

A new line first proves that the server accepts writes. Servers that refuse writes answer reads,
too: a replica, a primary without its replicas, and a primary that had to step down. A primary of
the last two kinds may have been replaced. But a server that refuses writes because it can't write
its files is still a primary, so the line is used.
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
    """The driver's pool of connections to one server."""

    async def get_connection(self) -> AbstractConnection:
        """Returns a connection that is ready for use. Raises the errors of the driver."""

    async def release(self, connection: AbstractConnection) -> None:
        """Takes a closed connection back into the pool."""

    @property
    def _available_connections(self) -> Sequence[AbstractConnection]:
        """The connections that are not in use."""


class LineSource:
    """Makes read lines. `proof` is a command that writes nothing, but fails on a server that may
    not be the primary. If `proof` is None, this command is not sent. Every new line is tested for
    data that no command requested.
    """

    def __init__(self, connections: Connections, proof: Command | None) -> None:
        self._connections = connections
        self._proof = proof
        self._tasks = BackgroundTasks()
        self.settled = self._tasks.settled
        self.held = 0
        """How many connections the lines of this source have, or are about to get."""

    def reserve(self) -> None:
        """Reserves a connection for a line that is about to be made."""
        self.held += 1

    async def make(self, answered: Answered, lost: Lost, then: Callable[[], None]) -> ReadLine:
        """Makes a line on a reserved connection, and tests the line. Raises WritesRefused, and the
        errors of the driver.

        Args:
            answered: Called when a batch on the line is answered.
            lost: Called when the line is lost.
            then: Called if making the line fails after it got a connection. First that connection
                is given back.
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
        """Gives back the connection of a closed line. Then calls `then`, as there is room for
        another connection.
        """
        self._tasks.start(self._give_back(line.connection, then))

    async def hang_up_free(self) -> None:
        """Closes the connections of the pool that are not in use. No other task runs before all of
        them are closed. Otherwise the pool could hand out a connection that is about to be closed.
        """
        for connection in [*self._connections._available_connections]:  # noqa: SLF001
            with suppress(*EXCHANGE_FAILURES):  # the connection will not be used again
                await connection.disconnect(nowait=True)

    def hang_up_free_soon(self) -> None:
        """Closes the connections of the pool that are not in use, in the background."""
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
