"""How a batch of reads travels: one write, one wait, all replies.

On a standalone or Sentinel primary each pipeline keeps a connection of its own, which spares most
of what the driver's own pipelines cost. A connection on which anything went wrong is hung up, never
used again with a reply on its way; so are all of them when the primary may have moved, as a demoted
one would go on answering. On a cluster the client sees to all that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from session_authority.store.driver.batcher import Command
from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.connection import RedisClient


class ReadPipelines(Protocol):
    """Where a batcher's reads go."""

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The answers, or exceptions, to commands that change nothing."""

    async def hang_up(self) -> None:
        """Makes the next reads find out anew who the primary is."""


def pipelines_to(client: RedisClient) -> ReadPipelines:
    """Sends batches of reads through this client."""
    return _ClusterPipelines(client) if isinstance(client, Cluster) else _DirectPipelines(client)


class _ClusterPipelines:
    def __init__(self, client: Cluster) -> None:
        self.send = client.send_reads

    async def hang_up(self) -> None:
        """The client follows its primaries by itself."""


class _DirectPipelines:
    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._idle: list[AbstractConnection] = []
        self._epoch = 0

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        epoch = self._epoch  # of before it connects: it may yet reach the primary that was
        connection = await self._connection()
        try:
            packed = [part for command in commands for part in connection.pack_command(*command)]
            await connection.send_packed_command(packed, check_health=False)
            replies = [await _reply(connection) for _ in commands]
        except BaseException:
            await self._drop(connection)
            raise
        if epoch == self._epoch:
            self._idle.append(connection)
        else:
            await self._drop(connection)
        return replies

    async def hang_up(self) -> None:
        self._epoch += 1
        idle, self._idle = self._idle, []
        for connection in idle:
            await self._drop(connection)
        await self._pool.disconnect(inuse_connections=False)

    async def _connection(self) -> AbstractConnection:
        while self._idle:
            connection = self._idle.pop()
            # Something to read before anything was asked means: hung up, or out of step.
            if connection.is_connected and not await connection.can_read():
                return connection
            await self._drop(connection)
        fresh: AbstractConnection = await self._pool.get_connection()
        return fresh

    async def _drop(self, connection: AbstractConnection) -> None:
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:  # the answer to this one command; the next reply is in step
        return error
