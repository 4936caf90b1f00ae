"""Chooses how the reads of a Redis client are sent: over read lines to the client's server, or over
read lines to each primary of a cluster.

A read line needs a socket. If the connections of a client are not sockets, as with a fake Redis in
tests, the reads are sent on connections of the client's pool.
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
    """The interface through which other modules send reads to Redis."""

    def question(self, *command: str | bytes) -> Question:
        """Returns a question: a command that may be sent more than once. A caller may keep the
        question and send it many times.
        """

    def ask(self, question: Question) -> Awaitable[Any]:
        """Sends a question, and returns an awaitable of the answer. The awaitable raises the
        server's error if the server refuses the question, and an error of the driver if no answer
        comes. If a caller is cancelled, other callers are not affected.
        """

    async def ask_many(self, questions: Sequence[Question], *, apart: bool = False) -> list[Any]:
        """Sends several questions. Returns a list with the answer or the exception of each
        question. Set `apart` if the answers may be large, so that other reads do not wait for these
        answers.
        """

    async def hang_up(self) -> None:
        """Closes the read lines and the free connections of the pool, so that the next reads find
        out again which server is the primary. Does nothing for a cluster, or if the client has no
        read lines.
        """

    async def drained(self) -> None:
        """Waits until all earlier questions are answered, and then closes the idle read lines, if
        the client has read lines.
        """


_shared: WeakKeyDictionary[RedisClient, ReadPath] = WeakKeyDictionary()


def read_path_of(client: RedisClient, probe: str) -> ReadPath:
    """Returns the read path of a client. All parts of a process that use the same client get the
    same read path. So if one part of the process learns that the primary has changed, all parts use
    the new primary.

    `probe` is a key that never exists. The command that deletes `probe` tests if a server accepts
    writes: the command changes nothing, but fails on a server that refuses writes.
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
        limit=max_lines(pool.max_connections) + 2,  # one more for the event log, and one for marks
        timeout_seconds=pool.connection_kwargs["socket_timeout"],
        traffic=traffic_of(client),
    )
    if isinstance(pool, SentinelPool):
        pool.on_move = lines.begin_generation
    return lines


class _PlainReads:
    """Sends reads one after another, on connections of a client's pool. This class is used for
    clients that can't have read lines.
    """

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
        """Does nothing, because no other server can become the primary."""

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
