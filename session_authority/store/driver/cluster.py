"""Changes redis-py's cluster client so that an unreachable node affects only the slots of that
node.

The slot map of a cluster says which node serves which slot. Without the changes in this module, the
client of redis-py 8.1 has five faults. First, the client sends a command to a random node if the
command had to wait for the first read of the slot map. Second, the client closes all connections,
even those with commands under way, after every fifth MOVED redirection and after each command whose
slot no node serves. Third, the client can't read the slot map while the first primary in the slot
map is unreachable. Fourth, the client does not read the slot map again after a pipeline failed.
Fifth, the client uses connections that the server has closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
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
# The shortest interval between two reads of the slot map. The interval does not apply if the client
# knows no node after a successful read.
_FRESH_SECONDS = 0.25
# True while the driver carries out a command for this task.
_IN_COMMAND: ContextVar[bool] = ContextVar("IN_COMMAND", default=False)


@contextmanager
def _in_command() -> Iterator[None]:
    token = _IN_COMMAND.set(True)
    try:
        yield
    finally:
        _IN_COMMAND.reset(token)


class Cluster(RedisCluster):
    """The cluster client of redis-py, changed so that a command raises only RedisError.
    `on_node_lost` is called with the name of a node after a connection to the node failed or a
    reply timed out. `on_look` is called after each successful read of the slot map.
    """

    def __init__(self, nodes: Sequence[tuple[str, int]], **options: Any) -> None:
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in nodes],
            require_full_coverage=False,
            reinitialize_steps=0,  # with 0, moved slots never make the driver close all connections
            **options,
        )
        # The driver has no option for the class of connections, so the class is set here. The
        # driver's nodes manager shares the dictionary `connection_kwargs`, so new nodes get the
        # class, too.
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
        """Reads the slot map at the first use, and again after an error showed that the slot map
        may be old. Waits for the new slot map only if the client knows no node yet. Concurrent
        callers share one read of the slot map. Raises Disconnected if the client knows no node and
        no node answers.
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
        """Closes all connections, and not only the free ones.

        The driver also calls this method if no node serves the slot of a command. Then only the
        slot map may be old: other callers still use the connections, so they stay open.
        """
        if _IN_COMMAND.get():
            self._initialize = True
            return
        if self._look is not None:
            await asyncio.wait([self._look])
        self._initialize = (
            # If `_initialize` were True, the driver's `aclose` would leave all connections open.
            False
        )
        await super().aclose()

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Runs a command as the driver does. Also calls `on_node_lost` if the connection to a node
        failed or the reply timed out.
        """
        try:
            await self.initialize()  # the driver must know the nodes before it chooses one
            with _in_command():
                return await super().execute_command(*args, **kwargs)
        except _LOST as error:
            name = getattr(error, "last_failed_node_name", None)
            if name is not None:
                self._failed = name
                self.on_node_lost(name)
            raise
        except _NO_REDIS_ERROR as error:  # No node serves the command's slot.
            self._initialize = True
            raise Disconnected(type(error).__name__) from None

    async def ask_each_primary(self, *command: str) -> dict[str, Any]:
        """Sends a command to each primary. Returns a dictionary from the name of each primary to
        its answer. A primary that refuses the command or does not answer is left out. Raises
        Disconnected if no primary gives an answer.
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
        """Sends `command`, which writes to the slot of `key`, and then `wait`, a `WAIT` command, on
        the same connection. Returns the two replies. If the server refuses one of the two commands,
        an exception takes the place of the reply to this command.

        If the slot has just moved, or if the node of the slot is unknown, the driver finds the node
        and sends only `command`. If only `command` is sent, the second result is 0, and a refusal
        of `command` is raised.
        """
        await self.initialize()
        nodes = self.nodes_manager.slots_cache.get(self.keyslot(key))
        if not nodes:
            return await self.execute_command(*command), 0
        pipeline = self.pipeline()
        for each in (command, wait):
            pipeline.execute_command(*each, target_nodes=[nodes[0]])
        try:
            with _in_command():
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
        """Returns the name of the primary that serves the slot of a key, or "" if no node serves
        this slot.
        """
        nodes = self.nodes_manager.slots_cache.get(self.keyslot(key))
        return nodes[0].name if nodes else ""

    def primary_of_slot(self, slot: int) -> str:
        """Returns the name of the primary that serves a slot. If no node serves the slot, returns
        "", and the next call of `initialize` reads the slot map again.
        """
        nodes = self.nodes_manager.slots_cache.get(slot)
        if not nodes:
            self._initialize = True
            return ""
        return nodes[0].name

    @property
    def wants_a_look(self) -> bool:
        """True if the next call of `initialize` should read the slot map."""
        return self._initialize

    def one_for_each_primary(self, keys: Iterable[str]) -> dict[str, str]:
        """Chooses one of the keys for each primary that serves at least one of the keys. The result
        maps the name of each primary to the chosen key. If no node serves the slots of some keys,
        the result also maps the name "" to one of those keys.
        """
        return {self.primary_of(key): key for key in keys}

    async def lose(self, name: str) -> None:
        """Closes the free connections to a node after a pipeline or a read line failed, and calls
        `on_node_lost`. Also causes a new read of the slot map. After a failure of a single command,
        the driver itself closes the free connections.
        """
        self._failed, self._initialize = name, True
        self.on_node_lost(name)
        node = self.get_node(node_name=name)
        if node is not None:
            node.update_active_connections_for_reconnect()
            await node.disconnect_free_connections()
            self.nodes_manager.move_node_to_end_of_cached_nodes(name)


class _Parser(AsyncCommandsParser):
    """Finds the keys in a command. For the commands in `_KEY_COMES_FIRST`, the key is the first
    argument. For commands that are not in `_KEY_COMES_FIRST`, the driver finds the keys. The driver
    may first ask a node for a description of all commands, and this node may be unreachable.
    """

    async def initialize(self, node: ClusterNode | None = None) -> None:
        if node is None:
            await super().initialize()
        else:
            self.node = node

    async def get_keys(self, *args: Any) -> Any:
        return args[1:2] if args[0] in _KEY_COMES_FIRST else await super().get_keys(*args)


class _Attentive:
    """A connection that reconnects before its next command in two cases: the server has closed the
    connection, or the connection has received data that no command requested.
    """

    def should_reconnect(self) -> bool:
        reader = self._reader  # type: ignore[attr-defined]
        out_of_step = reader is not None and (reader.at_eof() or getattr(reader, "_buffer", b""))
        return bool(super().should_reconnect() or out_of_step)  # type: ignore[misc]


class _PlainConnection(_Attentive, Connection):
    pass


class _SecureConnection(_Attentive, SSLConnection):
    pass
