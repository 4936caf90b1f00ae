"""Finds the primary of a Sentinel group, and learns at once when another server becomes the
primary.

When the primary changes, the Sentinels publish a message on the channel `+switch-master`. A primary
that was replaced while it did not respond may still answer commands, until a Sentinel makes it a
replica some ten seconds later. So a reply counts only if its server is still the known primary when
the reply arrives.

This module changes two behaviors of redis-py 8.1. First, redis-py believes the first Sentinel that
answers, though another Sentinel may know of a later failover. Second, redis-py goes on reading from
connections to the old primary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog
from redis.asyncio import Redis, Sentinel
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as Disconnected

from session_authority.runtime.logs import LogThrottle
from session_authority.runtime.tasks import BackgroundTasks
from session_authority.store.driver.errors import EXCHANGE_FAILURES, ResponseError
from session_authority.store.driver.subscription import messages_on

SWITCH_CHANNEL = "+switch-master"
# How long the client waits for the answers of other Sentinels after the first Sentinel has
# answered.
_GRACE_SECONDS = 0.25

_log = structlog.get_logger(__name__)
_throttle = LogThrottle()

Address = tuple[str, int]


class PrimaryReplaced(Disconnected):
    """Raised if the server of a connection is no longer the primary, or may no longer be the
    primary.
    """


@dataclass(frozen=True, slots=True)
class View:
    """The answer of one Sentinel about the primary. `address` is the server that this Sentinel
    takes for the primary. `epoch` is the number of the failover that made this server the primary.

    `settled` is True if the Sentinel finds that this server is alive, and no failover is in
    progress.
    """

    epoch: int
    address: Address
    settled: bool


def believed(views: Sequence[View], asked: int, latest_epoch: int) -> View | None:
    """Returns the view that the client believes: a settled view with the highest `epoch` of all
    views. Returns None if no view with the highest `epoch` is settled.

    `asked` is the number of Sentinels that were asked. `latest_epoch` is the `epoch` of the view
    that the client believed before. If all views have a lower `epoch` than `latest_epoch`, a view
    is believed only if every Sentinel has given one. If every Sentinel has given a view, and all
    views have a lower `epoch` than `latest_epoch`, the Sentinel group was probably set up anew.
    """
    latest = max((view.epoch for view in views), default=0)
    if latest < latest_epoch and len(views) < asked:
        return None
    return next((view for view in views if view.settled and view.epoch == latest), None)


class Sentinels(Sentinel):
    """Asks all Sentinels of a group for the primary, and believes the Sentinel that knows of the
    latest failover.
    """

    def __init__(self, addresses: Sequence[Address], **options: Any) -> None:
        super().__init__(addresses, sentinel_kwargs=options)
        self._looks = BackgroundTasks()
        self._latest_epoch = 0

    async def discover_master(self, service_name: str) -> Address:
        """Asks all Sentinels for the primary of the group `service_name`, and returns the address
        of this primary. If no answer can be believed, raises the error of a Sentinel that refused
        the question, or MasterNotFoundError if no Sentinel refused it.
        """
        looks = [self._looks.start(_view_of(sentinel, service_name)) for sentinel in self.sentinels]
        views = await _first_and_soon(looks)
        view = believed(views, len(looks), self._latest_epoch)
        if view is not None:
            self._latest_epoch = view.epoch
            return view.address
        for look in looks:
            if look.done() and (refusal := look.exception()) is not None:
                raise refusal
        raise MasterNotFoundError(f"no Sentinel knows a primary of the name {service_name!r}")

    async def aclose(self) -> None:
        """Waits until no question to a Sentinel is under way, and then closes the connections to
        the Sentinels.
        """
        await self._looks.settled()
        await super().aclose()


async def _view_of(sentinel: Redis, group: str) -> View | None:
    """Asks one Sentinel for the primary of a group, and returns the Sentinel's view. Returns None
    if the Sentinel does not answer or does not know the group. Raises the Sentinel's error if the
    Sentinel refuses the question.
    """
    try:
        masters: Any = await sentinel.sentinel_masters()
    except EXCHANGE_FAILURES as error:
        _tell("sentinel_does_not_answer", error)
        if isinstance(error, (AuthenticationError, ResponseError)):
            raise
        return None
    state = masters.get(group)
    if state is None:
        return None
    flags = set(state["flags"].split(","))
    settled = "master" in flags and not flags & {"s_down", "o_down", "failover_in_progress"}
    return View(state["config-epoch"], (state["ip"], state["port"]), settled)


async def _first_and_soon(looks: Sequence[asyncio.Task[View | None]]) -> list[View]:
    """Waits for the first view, and a short time for more views. Returns the views that arrived.
    Returns an empty list if all tasks end without a view.
    """
    waiting = set(looks)
    views: list[View] = []
    while waiting:
        done, waiting = await asyncio.wait(
            waiting,
            timeout=_GRACE_SECONDS if views else None,
            return_when=asyncio.ALL_COMPLETED if views else asyncio.FIRST_COMPLETED,
        )
        views += [
            view for look in done if not look.exception() and (view := look.result()) is not None
        ]
        if views and not done:
            break
    return views


class SentinelPool(SentinelConnectionPool):
    """A pool of connections to the present primary of a Sentinel group. `on_move` is called when
    another server becomes the primary.

    The pool receives messages from the Sentinels from its first connection until the pool is
    closed.
    """

    def __init__(self, group: str, sentinels: Sentinels, *, ssl: bool, **options: Any) -> None:
        kind = _SecureConnection if ssl else _PlainConnection
        super().__init__(group, sentinels, connection_class=kind, **options)
        self.on_move: Callable[[], None] = lambda: None
        self._look: asyncio.Task[Address] | None = None
        self._switches = 0
        self._listeners: list[asyncio.Task[None]] = []
        self._asking = BackgroundTasks()

    async def get_master_address(self) -> Address:
        """Asks all Sentinels for the address of the primary, and returns the address. Concurrent
        callers share the result. Raises the errors of `Sentinels.discover_master`.
        """
        if not self._listeners:
            self._listeners = [
                asyncio.ensure_future(self._listen(sentinel))
                for sentinel in self.sentinel_manager.sentinels
            ]
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(self._find())
            self._look.add_done_callback(lambda look: look.cancelled() or look.exception())
        return await asyncio.shield(self._look)

    async def aclose(self) -> None:
        """Closes all connections, including those to the Sentinels."""
        while pending := [task for task in self._listeners if not task.done()]:
            # A task may need more than one cancellation, because the driver may lose a
            # cancellation: see `shielding`.
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=0.1)
        await self._asking.settled()
        if self._look is not None:
            await asyncio.wait([self._look])
        await super().aclose()
        await self.sentinel_manager.aclose()

    async def _find(self) -> Address:
        while True:
            switches = self._switches
            address: Address = await self.sentinel_manager.discover_master(self.service_name)
            if switches == self._switches:  # no change was announced during the search
                await self._note(address)
                return address

    async def _note(self, address: Address) -> None:
        """Stores the primary's address. If the address has changed, closes the connections to the
        old primary.
        """
        known = self.master_address
        if address == known:
            return
        self.master_address = address
        if known is not None:
            _log.warning("primary_changed", old=_text(known), new=_text(address))
            self.on_move()
        # Connections in use are closed, too, because the old primary might never send the replies.
        connections: list[Any] = [*self._available_connections, *self._in_use_connections]
        for connection in connections:
            if (connection.host, connection.port) != address:
                await connection.disconnect(nowait=True)

    async def _listen(self, sentinel: Redis) -> None:
        def failed(error: Exception) -> None:
            _tell("sentinel_not_heard", error)
            self._asking.start(self._look_again())

        async with aclosing(messages_on(sentinel, SWITCH_CHANNEL, failed)) as messages:
            async for message in messages:
                if message is None:
                    await self._look_again()
                    continue
                group, *addresses = message.decode().split(" ")
                if group == self.service_name and len(addresses) == 4:
                    self._switches += 1
                    await self._note((addresses[2], int(addresses[3])))

    async def _look_again(self) -> None:
        """Asks the Sentinels for the primary again, because a message about a new primary may have
        been missed. If no primary is found, the error is only logged.
        """
        try:
            await self.get_master_address()
        except EXCHANGE_FAILURES as error:
            _tell("primary_not_found", error)


class _Loyal:
    """A connection that works only while its server is the primary. After another server has become
    the primary, the connection accepts no reply of the old primary.
    """

    async def _send_packed_command(self, command: Any) -> None:
        if not self.is_connected:  # type: ignore[attr-defined]
            # The connection was closed after the driver had checked it. Without PrimaryReplaced,
            # the driver would raise an AttributeError, because a closed connection has no stream.
            raise PrimaryReplaced
        await super()._send_packed_command(command)  # type: ignore[misc]

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        reply = await super().read_response(*args, **kwargs)  # type: ignore[misc]
        if self.connection_pool.master_address != (self.host, self.port):  # type: ignore[attr-defined]
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise PrimaryReplaced
        return reply


class _PlainConnection(_Loyal, SentinelManagedConnection):
    pass


class _SecureConnection(_Loyal, SentinelManagedSSLConnection):
    pass


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def _tell(event: str, error: Exception) -> None:
    kind = type(error).__name__
    left_out = _throttle.count(f"{event} {kind}", monotonic())
    if left_out is not None:
        _log.warning(event, error=kind, left_out=left_out)
