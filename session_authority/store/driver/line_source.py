"""Opens and closes the read lines to one server. A read line takes a connection from the driver's
pool. When the read line is closed, the connection goes back to the pool.

Before a read line is used, a test command checks that the server accepts writes. The test command
detects servers that may answer reads with old data: a demoted primary, and a primary that lost its
replicas. A primary that can't write its files also refuses writes, but its read line is used,
because no other server has replaced this primary.
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
    """The methods that read lines use of the driver's pool of connections to one server."""

    async def get_connection(self) -> AbstractConnection:
        """Returns a connection that is ready for use. Raises the errors of the driver."""

    async def release(self, connection: AbstractConnection) -> None:
        """Takes a closed connection back into the pool."""

    @property
    def _available_connections(self) -> Sequence[AbstractConnection]:
        """The connections of the pool that are not in use."""


class LineSource:
    """Makes read lines to one server. `proof` is the test command: it changes nothing, but fails on
    a server that refuses writes. If `proof` is None, no test command is sent. A connection with
    data that no command requested is refused even if `proof` is None.
    """

    def __init__(self, connections: Connections, proof: Command | None) -> None:
        self._connections = connections
        self._proof = proof
        self._tasks = BackgroundTasks()
        self.settled = self._tasks.settled
        self.held = 0
        """How many connections the read lines of this source have or are about to get."""

    def reserve(self) -> None:
        """Counts a connection in `held`, for a read line that `make` is about to make."""
        self.held += 1

    async def make(self, answered: Answered, lost: Lost, then: Callable[[], None]) -> ReadLine:
        """Makes a read line on a connection of the pool, after tests of the connection. `reserve`
        must be called first. Raises WritesRefused if the server refuses the test command, and the
        errors of the driver.

        Args:
            answered: Called by the read line after each batch that is answered.
            lost: Called by the read line when its connection can't be used any more.
            then: Called if a test of the connection fails, after the connection has gone back to
                the pool.
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
        """Closes the connection of a read line and returns it to the pool, in the background. When
        the connection is in the pool, calls `then`, which may open a new read line.
        """
        self._tasks.start(self._give_back(line.connection, then))

    async def hang_up_free(self) -> None:
        """Closes the connections of the pool that are not in use. No other task runs before all
        these connections are closed, so no task can get one of them from the pool.
        """
        for connection in [*self._connections._available_connections]:  # noqa: SLF001
            with suppress(*EXCHANGE_FAILURES):  # an error on a closed connection does not matter
                await connection.disconnect(nowait=True)

    def hang_up_free_soon(self) -> None:
        """Starts a background task that closes the unused connections of the pool."""
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
