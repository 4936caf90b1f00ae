"""Changes the driver's cluster client so that an unreachable node affects only its own slots.

Without these changes, redis-py 8.1 has five faults. It sends commands to a random node if they
waited for the first reading of the cluster's nodes. After some redirections it closes all
connections, with all commands under way. It finds no cluster at all while the first of its
primaries is unreachable. After a pipeline fails, it does not read the cluster's nodes again. And it
hands out connections that the server has closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any

from redis._parsers import AsyncCommandsParser
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import AskError, MovedError, RedisClusterException
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as TimedOut

_KEY_COMES_FIRST = frozenset(
    {"DEL", "EXISTS", "GET", "HGET", "HGETALL", "PTTL", "XRANGE", "XREVRANGE"}
)
_LOST = (Disconnected, TimedOut)
_NO_REDIS_ERROR = (RedisClusterException, KeyError)
# While nodes fail, the client waits at least this long before it reads the cluster's nodes again.
_FRESH_SECONDS = 0.25


class Cluster(RedisCluster):
    """The driver's cluster client, changed so that it raises only RedisError. `on_node_lost` is
    called with the name of a node that closed a connection or did not answer in time. `on_look` is
    called each time after the client has read the cluster's nodes.
    """

    def __init__(self, nodes: Sequence[tuple[str, int]], **options: Any) -> None:
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in nodes],
            require_full_coverage=False,
            reinitialize_steps=0,  # follow each moved slot, and never close all connections
            **options,
        )
        # The driver has no option for the class of connections. The manager of the nodes uses the
        # same settings.
        connection = _SecureConnection if options.get("ssl") else _PlainConnection
        self.connection_kwargs["connection_class"] = connection
        for node in self.startup_nodes:
            node.connection_class = connection
        self.commands_parser = _Parser()
        self.on_node_lost: Callable[[str], None] = lambda _: None
        self.on_look: Callable[[], None] = lambda: None
        self._failed: str | None = None
        self._look: asyncio.Task[None] | None = None
        self._looked = 0.0

    async def initialize(self, *_: Any, **__: Any) -> Cluster:
        """Reads the cluster's nodes and slots at the first use, and again if an error made this
        necessary. Waits for the result only if no node is known yet. Callers at the same time share
        one reading. Raises Disconnected if no node is known and none answers.
        """
        if self._initialize:
            unknown = self.get_default_node() is None
            if self._look is None or (self._look.done() and self._is_stale(self._look, unknown)):
                self._looked = monotonic()
                self._look = asyncio.ensure_future(self._look_around())
                self._look.add_done_callback(lambda look: look.cancelled() or look.exception())
            if unknown:
                await asyncio.shield(self._look)
        return self

    async def _look_around(self) -> None:
        try:
            await super().initialize(last_failed_node_name=self._failed)
        except (RedisClusterException, LookupError):
            raise Disconnected("no node of the cluster answers") from None
        self.on_look()

    def _is_stale(self, look: asyncio.Task[None], unknown: bool) -> bool:
        forgotten = unknown and look.exception() is None
        return forgotten or monotonic() - self._looked >= _FRESH_SECONDS

    async def aclose(self) -> None:
        """Closes all connections."""
        if self._look is not None:
            await asyncio.wait([self._look])
        self._initialize = (
            # otherwise the driver would leave all connections open if it was about to read the
            # nodes
            False
        )
        await super().aclose()

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Carries out a command, as the driver does, and reports a node that did not answer."""
        try:
            await self.initialize()  # otherwise the driver chooses a node before it knows any node
            return await super().execute_command(*args, **kwargs)
        except _LOST as error:
            name = getattr(error, "last_failed_node_name", None)
            if name is not None:
                self._failed = name
                self.on_node_lost(name)
            raise
        except _NO_REDIS_ERROR as error:  # No node serves the slot.
            self._initialize = True
            raise Disconnected(type(error).__name__) from None

    async def ask_each_primary(self, *command: str) -> dict[str, Any]:
        """Sends a command to each primary. Returns the answers of the primaries that answer, by the
        names of the primaries. A primary that refuses the command counts as not answering. Raises
        Disconnected only if no primary answers, because an unreachable primary affects only its own
        slots.
        """
        await self.initialize()
        nodes = self.get_primaries()
        asked = (self.execute_command(*command, target_nodes=[node]) for node in nodes)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        good = {
            n.name: a
            for n, a in zip(nodes, answers, strict=True)
            if not isinstance(a, BaseException)
        }
        if not good:
            raise Disconnected("no primary answers")
        return good

    async def run_and_wait(
        self, key: str, command: Sequence[Any], wait: Sequence[Any]
    ) -> tuple[Any, Any]:
        """Sends a command that writes to the slot of `key`, and a `WAIT` after it, on one
        connection. Returns the two replies, or exceptions. If the slot has just moved or its node
        is unknown, the command is sent alone to the slot's new node. Then the count of replicas is
        0, because it is not known which node accepted the write.
        """
        await self.initialize()
        nodes = self.nodes_manager.slots_cache.get(self.keyslot(key))
        if not nodes:
            return await self.execute_command(*command), 0
        pipeline = self.pipeline()
        for each in (command, wait):
            pipeline.execute_command(*each, target_nodes=[nodes[0]])
        try:
            reply, confirmed = await pipeline.execute(
                raise_on_error=False, allow_redirections=False
            )
        except _LOST:
            await self.lose(nodes[0].name)
            raise
        except _NO_REDIS_ERROR as error:
            self._initialize = True
            raise Disconnected(type(error).__name__) from None
        if isinstance(reply, (MovedError, AskError)):
            return await self.execute_command(*command), 0
        return reply, confirmed

    def primary_of(self, key: str) -> str:
        """Returns the name of the node that serves a key, or "" if no node serves it."""
        nodes = self.nodes_manager.slots_cache.get(self.keyslot(key))
        return nodes[0].name if nodes else ""

    def primary_of_slot(self, slot: int) -> str:
        """Returns the name of the node that serves a slot, or "" if no node serves it. If no node
        serves the slot, the client will read the cluster's nodes again.
        """
        nodes = self.nodes_manager.slots_cache.get(slot)
        if not nodes:
            self._initialize = True
            return ""
        return nodes[0].name

    @property
    def wants_a_look(self) -> bool:
        """True if the client should read the cluster's nodes again: see `initialize`."""
        return self._initialize

    def one_for_each_primary(self, keys: Iterable[str]) -> dict[str, str]:
        """Chooses one of these keys for each primary that serves any of them. The result maps the
        primary's name to the key. If no node serves some of the keys, the result has one of these
        keys under the name "".
        """
        return {self.primary_of(key): key for key in keys}

    async def lose(self, name: str) -> None:
        """Marks a node as lost after a pipeline failed. The driver does this only after a single
        command fails.
        """
        self._failed, self._initialize = name, True
        self.on_node_lost(name)
        node = self.get_node(node_name=name)
        if node is not None:
            node.update_active_connections_for_reconnect()
            await node.disconnect_free_connections()
            self.nodes_manager.move_node_to_end_of_cached_nodes(name)


class _Parser(AsyncCommandsParser):
    """Finds the key in the commands of `_KEY_COMES_FIRST`. Otherwise the client would ask a node
    for the key, and the node may be unreachable. For other commands, the driver finds the key.
    """

    async def initialize(self, node: ClusterNode | None = None) -> None:
        if node is None:
            await super().initialize()
        else:
            self.node = node

    async def get_keys(self, *args: Any) -> Any:
        return args[1:2] if args[0] in _KEY_COMES_FIRST else await super().get_keys(*args)


class _Attentive:
    """A connection that reconnects before its next command if the server has closed it, or if it
    holds data that no command requested.
    """

    def should_reconnect(self) -> bool:
        reader = self._reader  # type: ignore[attr-defined]
        out_of_step = reader is not None and (reader.at_eof() or getattr(reader, "_buffer", b""))
        return bool(super().should_reconnect() or out_of_step)  # type: ignore[misc]


class _PlainConnection(_Attentive, Connection):
    pass


class _SecureConnection(_Attentive, SSLConnection):
    pass
