"""How a batch of reads travels: one write, one wait, all replies.

On a standalone or Sentinel primary each line keeps a connection of its own, which spares most of what the driver's
pipelines cost. A connection on which anything went wrong is hung up, never used again with a reply on its way. On a
cluster the client does it: it knows which node holds what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from session_authority.store.batcher import Command, Send
from session_authority.store.cluster import Cluster
from session_authority.store.connection import Client


def sender(client: Client) -> Send:
    """Sends batches of reads through this client."""
    return client.send_reads if isinstance(client, Cluster) else _Lines(client).send


class _Lines:
    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._idle: list[AbstractConnection] = []

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        connection = await self._connection()
        try:
            packed = [part for command in commands for part in connection.pack_command(*command)]
            await connection.send_packed_command(packed, check_health=False)
            replies = [await _reply(connection) for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
            raise
        self._idle.append(connection)
        return replies

    async def _connection(self) -> AbstractConnection:
        while self._idle:
            connection = self._idle.pop()
            # Something to read before anything was asked means: hung up, or out of step.
            if connection.is_connected and not await connection.can_read():
                return connection
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
        fresh: AbstractConnection = await self._pool.get_connection()
        return fresh


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:  # the answer to this one command; the next reply is in step
        return error
