"""Which way a client's reads go: over lines to its server or to the primaries of its cluster.

A client whose connections are no sockets, such as one that only imitates Redis, has no lines; its
reads take a connection of its pool each time.
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
    """Where reads are asked."""

    def question(self, *command: str | bytes) -> Question:
        """A command that changes nothing, to be asked, and kept if it is asked again and again."""

    def ask(self, question: Question) -> Awaitable[Any]:
        """The answer. Awaiting it raises what the server refused with, or what the driver raises
        where no answer came. A caller that is cancelled disturbs nobody.
        """

    async def ask_many(self, questions: Sequence[Question], *, apart: bool = False) -> list[Any]:
        """The answer to each question, or its exception. Of questions that are asked `apart` the
        answers may be large: no other read waits for them.
        """

    async def hang_up(self) -> None:
        """Makes the next reads find out anew who the primary is."""

    async def drained(self) -> None:
        """Waits for the answers to all that was asked so far."""


_shared: WeakKeyDictionary[RedisClient, ReadPath] = WeakKeyDictionary()


def read_path_of(client: RedisClient, probe: str) -> ReadPath:
    """The way of a client's reads: the same one for all parts of a process that share the client,
    so that what one part learns of the primary holds for all.

    `probe` is a key that never is: removing it writes nothing, but is refused where writes are.
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
        limit=max_lines(pool.max_connections) + 2,  # one for the log, one for marks of use
        timeout_seconds=pool.connection_kwargs["socket_timeout"],
        traffic=traffic_of(client),
    )
    if isinstance(pool, SentinelPool):
        pool.on_move = lines.begin_generation
    return lines


class _PlainReads:
    """One read at a time, on any connection of a pool."""

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
        """There is no other server."""

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
