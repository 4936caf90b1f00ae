"""How a batch of reads travels: one write, one wait, all replies.

On a standalone or Sentinel primary each pipeline keeps a connection of its own, which spares most
of what the driver's own pipelines cost. A new one first proves that the server takes writes: a
replica would answer reads as well. All of a process's connections are hung up when the primary may
be another one, as a demoted one would go on answering: each belongs to a generation, and any part
of the process that meets a time-out, a refusal or another primary begins the next. A connection on
which anything went wrong is never used again with a reply on its way. On a cluster the client sees
to all that.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as TimedOut

from session_authority.store.driver.batcher import Command
from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.connection import RedisClient
from session_authority.store.driver.errors import FILES_NOT_WRITTEN, code_of
from session_authority.store.driver.sentinels import PrimaryReplaced, SentinelPool

# How often reads are sent: the primary may be another one more than once in a row.
_MAX_ATTEMPTS = 3


class ReadPipelines(Protocol):
    """Where a batcher's reads go."""

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The answers, or exceptions, to commands that change nothing."""

    async def hang_up(self) -> None:
        """Makes the next reads find out anew who the primary is."""


_shared: WeakKeyDictionary[RedisClient, ReadPipelines] = WeakKeyDictionary()


def pipelines_to(client: RedisClient, probe: str) -> ReadPipelines:
    """Sends batches of reads through this client: the same ones for all parts of a process that
    share it, so that what one part learns of the primary holds for all.

    `probe` is a key that never is: removing it writes nothing, but is refused where writes are.
    """
    if client not in _shared:
        _shared[client] = (
            _ClusterPipelines(client)
            if isinstance(client, Cluster)
            else _DirectPipelines(client.connection_pool, ("DEL", probe))
        )
    return _shared[client]


class _ClusterPipelines:
    def __init__(self, client: Cluster) -> None:
        self._client = ref(client)

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        client = self._client()
        assert client is not None  # who reads has it
        return await client.send_reads(commands)

    async def hang_up(self) -> None:
        """The client follows its primaries by itself."""


class _DirectPipelines:
    def __init__(self, pool: ConnectionPool, proof: Command) -> None:
        self._pool = pool
        self._proof = proof
        # Each with the generation that it belongs to.
        self._idle: list[tuple[int, AbstractConnection]] = []
        self._generation = 0
        if isinstance(pool, SentinelPool):
            pool.on_move = self._begin_generation

    def _begin_generation(self) -> None:
        self._generation += 1

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Reads can be repeated: they are, if the primary may be another one than it was when they
        were sent.
        """
        for _ in range(_MAX_ATTEMPTS):
            with suppress(PrimaryReplaced):
                return await self._exchange(commands)
        raise PrimaryReplaced

    async def hang_up(self) -> None:
        self._begin_generation()
        idle, self._idle = self._idle, []
        for _, connection in idle:
            await self._drop(connection)
        await self._pool.disconnect(inuse_connections=False)

    async def _exchange(self, commands: Sequence[Command]) -> Sequence[Any]:
        try:
            generation, connection = await self._connection()
            replies = await self._asked(connection, commands)
        except TimedOut:
            await self.hang_up()
            raise
        if generation != self._generation:  # what it said may be of before
            await self._drop(connection)
            raise PrimaryReplaced
        self._idle.append((generation, connection))
        return replies

    async def _asked(
        self, connection: AbstractConnection, commands: Sequence[Command]
    ) -> Sequence[Any]:
        try:
            packed = [part for command in commands for part in connection.pack_command(*command)]
            await connection.send_packed_command(packed, check_health=False)
            return [await _reply(connection) for _ in commands]
        except BaseException:
            await self._drop(connection)
            raise

    async def _connection(self) -> tuple[int, AbstractConnection]:
        while self._idle:
            generation, connection = self._idle.pop()
            # Something to read before anything was asked means: hung up, or out of step.
            if (
                generation == self._generation
                and connection.is_connected
                and not await connection.can_read()
            ):
                return generation, connection
            await self._drop(connection)
        generation = self._generation  # of before it connects: it may yet reach the old primary
        fresh: AbstractConnection = await self._pool.get_connection()
        [proven] = await self._asked(fresh, [self._proof])
        if isinstance(proven, ResponseError) and code_of(proven) != FILES_NOT_WRITTEN:
            await self._drop(fresh)
            raise proven
        if generation != self._generation:
            await self._drop(fresh)
            raise PrimaryReplaced
        return generation, fresh

    async def _drop(self, connection: AbstractConnection) -> None:
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:  # the answer to this one command; the next reply is in step
        return error
