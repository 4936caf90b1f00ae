"""Closes connections at the ports of this process in two cases: a port has too many connections, or
a peer does not read its answers.

gRPC limits the number of connections of a port. While a port has its largest number of connections,
gRPC closes each new connection at once. Unknown clients could open so many connections that known
callers can't connect. So this module closes some connections before the limit is reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, thread_time
from typing import NoReturn

import structlog

from session_authority.domain.eviction import Seen, evicted
from session_authority.rpc.peers import Peers
from session_authority.runtime import descriptors, logs
from session_authority.runtime.descriptors import Connection
from session_authority.runtime.logs import LogThrottle
from session_authority.runtime.metrics import Metrics

_LOOK_SECONDS, _HASTY_LOOK_SECONDS = 0.5, 0.1
# The list of the connections takes long to make if there are many connections. So the pause after a
# check is at least this many times as long as the CPU time that the list took. With the first
# value, making the lists takes at most 2 % of the time of a CPU core. The second value applies
# after a check that found too many connections. With the second value, making the lists takes at
# most 10 %.
_PAUSE_PER_LOOK, _HASTY_PAUSE_PER_LOOK = 50, 10

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Port:
    """Describes a listening port: its name in metrics, its number, the largest number of its
    connections (`bound`), and the peers that have made calls.
    """

    name: str
    number: int
    bound: int
    peers: Peers


class Connections:
    """Checks the connections of a server's ports. Closes connections of a port that has too many,
    and the connections of peers that do not read their answers.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._ports: dict[int, Port] = {}
        self._first_seen: dict[Connection, float] = {}
        self._look_took_seconds = 0.0
        self._hasty = False
        self._throttle = LogThrottle()

    def watch(self, port: Port) -> None:
        """Adds a port whose connections are checked from now on."""
        self._ports[port.number] = port
        self._metrics.connections.labels(port.name).set(0)
        self._metrics.connections_limit.labels(port.name).set(port.bound)

    async def run(self) -> NoReturn:
        """Checks the connections of all added ports again and again, with a pause before each
        check.
        """
        while True:
            await asyncio.sleep(self._pause_seconds())
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - the checks must go on after any error
                _log.error("look_at_connections_failed", **logs.fault(error))

    def _pause_seconds(self) -> float:
        if self._hasty:
            return max(_HASTY_LOOK_SECONDS, _HASTY_PAUSE_PER_LOOK * self._look_took_seconds)
        return max(_LOOK_SECONDS, _PAUSE_PER_LOOK * self._look_took_seconds)

    async def look(self) -> None:
        """Checks the connections of all added ports once. Closes connections if a port has too
        many, or if a peer does not read its answers.
        """
        began_at = monotonic()
        found = await asyncio.to_thread(self._find)
        self._first_seen = {one: self._first_seen.get(one, began_at) for one in found}
        self._hasty = False
        for number, port in self._ports.items():
            self._look_at(port, {one: fd for one, fd in found.items() if one.port == number})
        self._forget(found, began_at)

    def _find(self) -> dict[Connection, int]:
        started = thread_time()
        found = descriptors.connections(self._ports.keys())
        self._look_took_seconds = thread_time() - started
        return found

    def _look_at(self, port: Port, found: Mapping[Connection, int]) -> None:
        self._metrics.connections.labels(port.name).set(len(found))
        seen = [self._seen(port, connection) for connection in found]
        crowd = {one.peer for one in evicted(seen, port.bound)}
        self._hasty |= bool(crowd)
        # `slow` is called after the wait for the thread that lists the connections. If the system
        # had stopped this process for a while, the process sends its overdue answers during this
        # wait. So the peers of these answers do not count as slow.
        slow = port.peers.slow(monotonic())
        for reason, peers in (("crowded", crowd), ("answers_not_read", slow)):
            closed = sum(
                descriptors.hang_up(one, fd) for one, fd in found.items() if one.peer in peers
            )
            if closed:
                self._log_closed(port=port.number, reason=reason, closed=closed, of=len(found))

    def _log_closed(self, **details: str | int) -> None:
        left_out = self._throttle.count(f"{details['port']} {details['reason']}", monotonic())
        if left_out is not None:
            _log.warning("connections_closed", left_out=left_out, **details)

    def _seen(self, port: Port, connection: Connection) -> Seen:
        peer, first_seen = port.peers.get(connection.peer), self._first_seen[connection]
        if peer is None:
            return Seen(connection.peer, first_seen)
        return Seen(connection.peer, max(peer.last_call_at, first_seen), peer.calls, peer.caller)

    def _forget(self, found: Mapping[Connection, int], began_at: float) -> None:
        """Forgets the peers of connections that were already closed when the check began.

        If `found` is empty, no peer is forgotten. On systems other than Linux, connections can't be
        listed, so `found` is always empty.
        """
        if found:
            names = {connection.peer for connection in found}
            for port in self._ports.values():
                port.peers.keep_only(names, began_at)
