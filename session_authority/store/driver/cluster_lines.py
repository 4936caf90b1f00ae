"""Manages the read lines to the primaries of a cluster. Each primary has its own read lines, so
that an unreachable primary affects only reads of its own slots.

The cluster's client knows which primary serves a slot. If a read reaches a primary that no longer
serves the slot, the primary answers with a redirection. A redirected read is sent again, to the new
primary of the slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary, ref

from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MaxConnectionsError, MovedError, TryAgainError
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as TimedOut

from session_authority.runtime.tasks import BackgroundTasks
from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.errors import EXCHANGE_FAILURES
from session_authority.store.driver.line_source import LineSource
from session_authority.store.driver.questions import Answers, Command, Question
from session_authority.store.driver.read_lines import ReadLines, max_lines
from session_authority.store.driver.shielding import Shield
from session_authority.store.driver.traffic import traffic_of

# How many redirected reads may be under way to one node at the same time. Each redirected read
# needs a connection of its own, and the limit leaves connections for writes.
MAX_FOLLOWED = 8


class _NodeLeft(Disconnected):
    """Raised if the node of a read line no longer belongs to the cluster. The client sends the
    reads of this read line again, to the nodes that now serve the slots of these reads.
    """


def _key_of(command: Command) -> str | bytes:
    """Returns the key of a command that reads one key."""
    match command[0]:
        case "XINFO":
            return command[2]
        case "XREADGROUP":
            return command[command.index("STREAMS", 4) + 1]
        case _:
            return command[1]


_ELSEWHERE = (MovedError, AskError, TryAgainError, _NodeLeft)


class ClusterLines:
    """Sends reads over read lines to the primaries of a cluster. An object of this class has only a
    weak reference to the cluster's client.
    """

    def __init__(self, client: Cluster) -> None:
        self._client = ref(client)
        self._lines: dict[str, ReadLines] = {}
        self._followed = Shield()
        self._may_follow: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._tasks = BackgroundTasks()
        client.on_node_lost = self._begin_generation_of
        client.on_look = self._forget_nodes_that_left

    def question(self, *command: str | bytes) -> Question:
        """Returns a question: a command that reads one key, with the slot of this key."""
        return Question(command, self._cluster.keyslot(_key_of(command)))

    async def ask(self, question: Question) -> Any:
        """Sends a question, and returns the answer. Raises the server's error if the server refuses
        the question, and an error of the driver if no answer comes.
        """
        client = self._cluster
        if client.wants_a_look:
            await client.initialize()
        lines = self._lines_for(client, question)
        if lines is None:
            raise _unserved()
        try:
            return await lines.ask(question)
        except _ELSEWHERE as elsewhere:
            return await self._follow(question, elsewhere)

    async def ask_many(self, questions: Sequence[Question], *, apart: bool = False) -> list[Any]:
        """Sends several questions. Returns a list with the answer or the exception of each
        question. Set `apart` if the answers may be large. With `apart`, the questions get batches
        of their own, so that other reads do not wait for the large answers.
        """
        client = self._cluster
        if client.wants_a_look:
            try:
                await client.initialize()
            except EXCHANGE_FAILURES as error:
                return [error] * len(questions)
        places: dict[ReadLines | None, list[int]] = {}
        for place, question in enumerate(questions):
            places.setdefault(self._lines_for(client, question), []).append(place)
        answers = Answers(len(questions))
        for lines, mine in places.items():
            if lines is None:
                answers.give(mine, [_unserved()] * len(mine))
            else:
                lines.ask_for(answers, [questions[place] for place in mine], mine, apart=apart)
        replies: list[Any] = await answers.future if questions else []
        elsewhere = [place for place, reply in enumerate(replies) if isinstance(reply, _ELSEWHERE)]
        if elsewhere:
            follow = (self._follow(questions[place], replies[place]) for place in elsewhere)
            # If a question fails, its exception is returned in place of an answer, so the other
            # questions still get their answers.
            found = await asyncio.gather(*follow, return_exceptions=True)
            for place, reply in zip(elsewhere, found, strict=True):
                replies[place] = reply
        return replies

    async def hang_up(self) -> None:
        """Does nothing, because the client itself learns which slots have a new primary."""

    async def drained(self) -> None:
        """Waits until all earlier questions are answered, and then closes the idle read lines."""
        await asyncio.gather(*(lines.drained() for lines in self._lines.values()))
        await self._tasks.settled()
        await self._followed.settled()

    @property
    def _cluster(self) -> Cluster:
        client = self._client()
        assert client is not None  # The code that reads `_cluster` holds the client.
        return client

    def _lines_for(self, client: Cluster, question: Question) -> ReadLines | None:
        name = client.primary_of_slot(question.slot)
        if not name:
            return None
        return self._lines.get(name) or self._lines_to(client, name)

    def _lines_to(self, client: Cluster, name: str) -> ReadLines:
        def failed(error: Exception) -> None:
            if isinstance(error, (Disconnected, TimedOut)) and not isinstance(
                error, (MaxConnectionsError, _NodeLeft)
            ):
                self._tasks.start(self._cluster.lose(name))

        lines = self._lines[name] = ReadLines(
            # No test command is needed, because a replica in a cluster redirects every read.
            LineSource(_NodeConnections(client, name), proof=None),
            # one more read line is for the event log
            limit=max_lines(client.connection_kwargs["max_connections"]) + 1,
            timeout_seconds=client.connection_kwargs["socket_timeout"],
            failed=failed,
            traffic=traffic_of(client),
        )
        return lines

    def _forget_nodes_that_left(self) -> None:
        """Closes the read lines to nodes that left the cluster. The read lines are closed at once,
        because a node that was replaced may still answer, with old data.
        """
        client = self._cluster
        for name in [name for name in self._lines if client.get_node(node_name=name) is None]:
            lines = self._lines.pop(name)
            lines.begin_generation()
            self._tasks.start(lines.drained())

    def _begin_generation_of(self, name: str) -> None:
        if name in self._lines:
            self._lines[name].begin_generation()

    async def _follow(self, question: Question, elsewhere: Exception) -> Any:
        """Sends a question again, after the exception `elsewhere` has shown that another node
        serves the slot. Returns the answer. At most MAX_FOLLOWED redirected reads are under way to
        one node. MAX_FOLLOWED applies to each node separately, so that a node that does not answer
        delays no reads from other nodes.
        """
        client = self._cluster
        if isinstance(elsewhere, AskError):
            name = f"{elsewhere.host}:{elsewhere.port}"
        else:
            name = client.primary_of_slot(question.slot)
        limit = self._may_follow.get(name)
        if limit is None:
            limit = self._may_follow[name] = asyncio.Semaphore(MAX_FOLLOWED)
        try:
            async with asyncio.timeout(client.connection_kwargs["socket_timeout"]):
                await limit.acquire()  # if the caller is cancelled here, nothing was sent
        except TimeoutError:
            raise TimedOut("no connection to follow with") from None
        return await self._followed.run(self._asked_of_its_node(question, limit))

    async def _asked_of_its_node(self, question: Question, limit: asyncio.Semaphore) -> Any:
        try:
            return await self._cluster.execute_command(*question.command)
        finally:
            limit.release()


class _NodeConnections:
    """Opens the connections of read lines to one node, which is identified by its name. The client
    may replace its node object by a new one with the same name. Each connection is added to the
    node's list `_connections`, because the client closes the connections in this list when the
    client itself is closed.
    """

    def __init__(self, client: Cluster, name: str) -> None:
        self._client = ref(client)
        self._name = name
        self._nodes: dict[AbstractConnection, ClusterNode] = {}

    async def get_connection(self) -> AbstractConnection:
        """Opens a new connection to the node. Free connections of the node are not used, because
        the driver may be about to close the free connections after an error. Raises _NodeLeft if
        the node no longer belongs to the cluster, MaxConnectionsError if the node has too many
        connections, and the errors of the driver.
        """
        client = self._client()
        node = client.get_node(node_name=self._name) if client is not None else None
        if node is None:
            raise _NodeLeft
        if len(node._connections) >= node.max_connections:  # noqa: SLF001
            raise MaxConnectionsError
        options = node.connection_kwargs | {"retry": Retry(NoBackoff(), 0)}
        connection = node.connection_class(**options)
        node._connections.append(connection)  # noqa: SLF001
        self._nodes[connection] = node
        try:
            await connection.connect()
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        self._nodes.pop(connection)._connections.remove(connection)  # noqa: SLF001

    @property
    def _available_connections(self) -> Sequence[AbstractConnection]:
        """Always an empty tuple, because the client itself closes the free connections of a lost
        node.
        """
        return ()


def _unserved() -> Disconnected:
    return Disconnected("nobody serves the slot")
