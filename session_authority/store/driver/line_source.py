"""Makes the read lines to one server from connections of the driver's pool, and gives the
connections back.

A new line first proves that the server accepts writes, as other servers answer reads, too: a
replica, and a primary that lacks its replicas or had to step down, and that may have been replaced.
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
        """A connection that is ready. Raises the errors of the driver."""

    async def release(self, connection: AbstractConnection) -> None:
        """Takes back a connection that is closed."""

    @property
    def _available_connections(self) -> Sequence[AbstractConnection]:
        """The connections that are not in use."""


class LineSource:
    """Makes read lines. `proof` is a command that writes nothing, but that a server refuses if it
    refuses writes. With None there is no such test.
    """

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
        """Makes a line on a connection that was reserved, and tests it. Raises WritesRefused, and
        the errors of the driver.

        Args:
            answered: Called when a batch on the line is answered.
            lost: Called when the line is lost.
            then: Called if the line fails after it got a connection, once that connection is given
                back.
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
        """Gives back the connection of a line that is closed. Calls `then` once that is done and
        there is room for another connection.
        """
        self._tasks.start(self._give_back(line.connection, then))

    async def hang_up_free(self) -> None:
        """Closes the connections of the pool that are not in use. No other task runs before all are
        closed: the pool might hand out a connection that is about to be closed.
        """
        for connection in [*self._connections._available_connections]:  # noqa: SLF001
            with suppress(*EXCHANGE_FAILURES):  # the connection will not be used again anyway
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
