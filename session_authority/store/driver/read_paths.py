"""Chooses how a client's reads are sent: over read lines to its server, or to the primaries of its
cluster.

If a client's connections are not sockets, as in an imitation of Redis, it has no read lines. Each
of its reads then uses a connection of the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import RedisError

from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.cluster_lines import ClusterLines
from session_authority.store.driver.connection import RedisClient
from session_authority.store.driver.line_source import LineSource
from session_authority.store.driver.questions import Question
from session_authority.store.driver.read_lines import ReadLines, max_lines
from session_authority.store.driver.sentinels import SentinelPool
from session_authority.store.driver.shielding import Shield
from session_authority.store.driver.traffic import traffic_of

_WITH_SOCKETS = (Connection, SSLConnection, UnixDomainSocketConnection)


class ReadPath(Protocol):
    """The interface by which reads are sent."""

    def question(self, *command: str | bytes) -> Question:
        """Makes a question from a command that may be sent more than once. A caller that sends the
        question often may keep it.
        """

    def ask(self, question: Question) -> Awaitable[Any]:
        """Returns the answer to a question. Awaiting it raises the error with which the server
        refused, or the driver's error if no answer came. If a caller is cancelled, other callers
        are not affected.
        """

    async def ask_many(self, questions: Sequence[Question], *, apart: bool = False) -> list[Any]:
        """Returns the answer to each question, or its exception. Use `apart` if the answers may be
        large, so that no other read waits for them.
        """

    async def hang_up(self) -> None:
        """Closes the read lines and the free connections, so that the next reads find out again
        which server is the primary. Does nothing in a cluster, or if there are no read lines.
        """

    async def drained(self) -> None:
        """Waits until all questions so far are answered."""


_shared: WeakKeyDictionary[RedisClient, ReadPath] = WeakKeyDictionary()


def read_path_of(client: RedisClient, probe: str) -> ReadPath:
    """Returns the read path of a client. All parts of a process that share the client share its
    read path. So if one part learns that the primary has changed, all parts use the new primary.

    `probe` is a key that never exists. Removing this key changes nothing, but a server that refuses
    writes refuses the removal.
    """
    if client not in _shared:
        _shared[client] = _made(client, probe)
    return _shared[client]


def _made(client: RedisClient, probe: str) -> ReadPath:
    if isinstance(client, Cluster):
        return ClusterLines(client)
    pool = client.connection_pool
    if not isinstance(pool, SentinelPool) and pool.connection_class not in _WITH_SOCKETS:
        return _PlainReads(pool)
    lines = ReadLines(
        LineSource(pool, proof=("DEL", probe)),
        limit=max_lines(pool.max_connections) + 2,  # one for the event log, one for marks of use
        timeout_seconds=pool.connection_kwargs["socket_timeout"],
        traffic=traffic_of(client),
    )
    if isinstance(pool, SentinelPool):
        pool.on_move = lines.begin_generation
    return lines


class _PlainReads:
    """Sends each read separately, on any connection of a pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._one_at_a_time = asyncio.Lock()
        self._shield = Shield()
        self.drained = self._shield.settled

    def question(self, *command: str | bytes) -> Question:
        return Question(command)

    async def ask(self, question: Question) -> Any:
        [reply] = await self.ask_many([question])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask_many(self, questions: Sequence[Question], *, apart: bool = False) -> list[Any]:
        return await self._shield.run(self._exchange(questions))

    async def hang_up(self) -> None:
        """Does nothing, because there is no other server."""

    async def _exchange(self, questions: Sequence[Question]) -> list[Any]:
        async with self._one_at_a_time:
            connection: AbstractConnection = await self._pool.get_connection()
            try:
                return [await self._reply(connection, question) for question in questions]
            finally:
                await self._pool.release(connection)

    async def _reply(self, connection: AbstractConnection, question: Question) -> Any:
        try:
            await connection.send_command(*question.command)
            return await connection.read_response()
        except RedisError as error:
            return error
