"""Runs a server of the service: its ports, its health, its repeated work, and its orderly end.

When the server stops, its health first changes to NOT_SERVING. After this change, unary calls that
are under way may finish. After the unary calls, the streams are ended. After the streams, pending
marks are written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_reflection.v1alpha import reflection, reflection_pb2

from session_authority.access import everybody, rows_missing
from session_authority.authority import Authority
from session_authority.domain.appearances.browsers import load_rules
from session_authority.domain.errors import AuthorityError
from session_authority.events import Feed
from session_authority.geoip import GeoipSource
from session_authority.processes.connections import Connections, Port
from session_authority.processes.failovers import Failovers
from session_authority.processes.grpc_server import (
    MethodsByName,
    new_server,
    server_credentials,
)
from session_authority.processes.health import StoreProbe, Verify
from session_authority.processes.health_service import HealthServicer
from session_authority.processes.listening import bind
from session_authority.processes.options import ListenOptions, Mode, Ports
from session_authority.processes.readiness import Readiness
from session_authority.processes.reloading import Reloading
from session_authority.rpc import (
    SERVICE_NAME,
    Authorizer,
    Capacity,
    Guard,
    Observer,
    SessionAuthorityService,
)
from session_authority.runtime.addresses import Listen
from session_authority.runtime.clock import SteadyClock
from session_authority.runtime.metrics import Metrics
from session_authority.runtime.settings import Acceptor
from session_authority.runtime.tasks import repeat
from session_authority.store import SessionStore, trim_margin
from session_authority.tokens import KeySource
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

# Health probes usually come one at a time, so the port for health needs few connections.
HEALTH_CONNECTIONS = 64
# The store is probed and files are checked at this interval.
PROBE_INTERVAL = timedelta(milliseconds=500)
# When a server stops, its streams go on for this time after its unary calls have ended, so that
# watchers of the health receive NOT_SERVING.
_STREAM_NOTICE_SECONDS = 0.1
# Handlers that gRPC has cancelled get this time to end, because gRPC does not wait for their end.
_CANCELLED_HANDLERS_SECONDS = 1.0
# When a server stops, its last writes of marks and last-seen times get this time. Without this
# limit, a store that hangs could delay the end of the server for minutes.
_LAST_WRITES = timedelta(seconds=2)


class UncoveredRpcs(Exception):
    """The access table lacks some RPCs, so their permissions are unknown."""


class Server:
    """A server of the service, which can be started only once. The constructor raises UncoveredRpcs
    if an RPC has no row in the access table.
    """

    def __init__(
        self,
        authority: Authority,
        feed: Feed,
        store: SessionStore,
        source: KeySource,
        metrics: Metrics,
        mode: Mode,
        options: ListenOptions,
        verify: Verify | None = None,
        geoip: GeoipSource | None = None,
        clock: SteadyClock | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._authority = authority
        self._observer = observer or Observer()
        self._metrics = metrics
        self._mode = mode
        self._options = options
        self._health = HealthServicer()
        clock = clock or SteadyClock()
        self._readiness = Readiness(must_verify=verify is not None, found_right=clock.found_right)
        self._probe = StoreProbe(store, self._health, metrics, self._readiness, verify)
        self._authorizer = _authorizer(options, self._readiness)
        self._guards: list[Guard] = []
        self._servers: list[grpc.aio.Server] = []
        self._connections = Connections(metrics)
        metrics.standing_acceptor.set(options.acceptor is Acceptor.STANDING)
        metrics.name_build(options.acceptor.value)
        self._server, self._methods = self._another_server(options.capacity, options.acceptor)
        metrics.calls_in_flight.set_function(lambda: self._guards[0].places_taken)
        metrics.calls_in_flight_limit.set(options.capacity.calls)
        self._reloading = Reloading(
            source, options, metrics, self._access_changed, self._readiness.note_readable, geoip
        )
        self._store = store
        self._failovers = Failovers(feed.primaries, authority.reassert)
        self._repeated: asyncio.Task[Any] | None = None
        self._offer(SessionAuthorityService(authority, feed, self._observer.auditor))

    def _offer(self, service: SessionAuthorityService) -> None:
        """Adds all services to the main server. Raises UncoveredRpcs if an RPC of these services
        has no row in the access table.
        """
        pb_grpc.add_SessionAuthorityServiceServicer_to_server(service, self._methods)
        self._offer_health(self._methods)
        services: list[Any] = [
            pb.DESCRIPTOR.services_by_name["SessionAuthorityService"],
            health_pb2.DESCRIPTOR.services_by_name["Health"],
        ]
        if self._mode.reflection:
            names = (SERVICE_NAME, HEALTH_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
            services.append(reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"])
        paths = [
            f"/{service.full_name}/{method.name}"
            for service in services
            for method in service.methods
        ]
        if missing := rows_missing(paths):
            raise UncoveredRpcs(f"the access table has no row for {', '.join(missing)}")

    def _offer_health(self, methods: Any) -> None:  # the type stubs want gRPC's server class
        health_pb2_grpc.add_HealthServicer_to_server(self._health, methods)

    def _another_server(
        self, capacity: Capacity, acceptor: Acceptor
    ) -> tuple[grpc.aio.Server, MethodsByName]:
        """Creates a server with a guard of its own.

        A guard remembers the methods of its server. If two servers shared a guard, the port of one
        server could offer the methods of the other server.
        """
        guard = Guard(self._metrics, self._authorizer, capacity, self._observer)
        server, methods = new_server(guard, capacity, acceptor, share_port=self._mode.share_port)
        self._guards.append(guard)
        self._servers.append(server)
        return server, methods

    def _health_server(self) -> grpc.aio.Server:
        """Creates a further server that only serves health."""
        server, methods = self._another_server(self._health_capacity(), Acceptor.STOCK)
        self._offer_health(methods)
        return server

    def _health_capacity(self) -> Capacity:
        whole = self._options.capacity
        return replace(whole, connections=min(whole.connections, HEALTH_CONNECTIONS))

    def _watch_connections(self, **listens: Listen | None) -> None:
        """Adds ports of the main server whose connections are checked. All these ports share the
        guard of the main server, and so its peers.
        """
        bound, peers = self._options.capacity.connections, self._guards[0].peers
        for name, listen in listens.items():
            if listen is not None:
                self._connections.watch(Port(name, listen.port, bound, peers))

    async def start(self, ports: Ports) -> Ports:
        """Starts to listen at the addresses, and returns the addresses with the bound ports. Raises
        CannotListen if the process can't listen at an address.
        """
        tls = self._options.tls
        main = bind(self._server, ports.main, server_credentials(tls))
        bearer = health = None
        if ports.bearer is not None:
            credentials = server_credentials(tls, ask_for_certificates=False)
            bearer = bind(self._server, ports.bearer, credentials)
        if ports.health is not None:
            health = bind(self._health_server(), ports.health, None)
            bound = self._health_capacity().connections
            self._connections.watch(Port("health", health.port, bound, self._guards[-1].peers))
        self._watch_connections(main=main, bearer=bearer)
        self._reloading.tell_current()
        await self._probe.probe()
        await self._failovers.look()  # notes the primaries before any call
        load_rules()
        for server in self._servers:
            await server.start()
        self._repeated = asyncio.ensure_future(self._repeat())
        return Ports(main, bearer, health)

    async def failure(self) -> None:
        """Waits until a probe finds the store unsafe, however long this takes, and then raises
        UnsafeStore.
        """
        await self._probe.failure()

    async def stop(self, grace: timedelta) -> None:
        """Ends the service in an orderly way.

        Sets the health of all names except LIVENESS to NOT_SERVING, and lets unary calls that are
        under way finish within `grace`. After the unary calls, ends the streams. Last, writes
        pending marks for at most two seconds.
        """
        if self._repeated is not None:
            self._repeated.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._repeated
        await self._health.enter_graceful_shutdown()
        # The method `stop` of grpc.aio is called only once for each server. A second call of `stop`
        # may use a server that the first call has destroyed, and crash the process.
        stopping = asyncio.gather(*(s.stop(grace.total_seconds()) for s in self._servers))
        await self._idle(grace.total_seconds())
        if any(guard.is_streaming for guard in self._guards):
            await asyncio.sleep(_STREAM_NOTICE_SECONDS)  # so watchers receive NOT_SERVING
            for guard in self._guards:
                guard.end_streams()
        await stopping
        await self._idle(_CANCELLED_HANDLERS_SECONDS)
        await self._authority.settle_within(_LAST_WRITES)

    async def _idle(self, timeout_seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            idle = asyncio.gather(*(guard.idle() for guard in self._guards))
            await asyncio.wait_for(idle, timeout_seconds)

    async def _repeat(self) -> None:
        """Repeats the probe of the store, the checks of files and other work. Each kind of work has
        its own loop, so slow work does not delay other work.
        """
        repeated: list[Callable[[], Any]] = [
            self._probe_once,
            self._end_streams_if_unfit,
            self._failovers.look,
            *self._reloading.looks(),
        ]
        interval = PROBE_INTERVAL.total_seconds()
        trim_interval = trim_margin(self._store.event_memory)
        await asyncio.gather(
            *(repeat(work, interval, "watch_failed") for work in repeated),
            repeat(self._trim_once, trim_interval.total_seconds(), "trim_failed"),
            self._connections.run(),
            self._metrics.watch_loop(),
        )

    async def _probe_once(self) -> None:
        await self._probe.probe()
        if self._probe.serving:
            with contextlib.suppress(AuthorityError):  # the next probe tries again
                await self._authority.tell_of_revoked_keys()

    async def _trim_once(self) -> None:
        """Removes old events in all partitions. Each write of an event also removes old events, but
        only in the partition of the event.

        Does nothing while this process must not answer calls. For example, if the clock of the
        store is wrong, the store could take new events for old ones.
        """
        if self._readiness.fault() is None:
            with contextlib.suppress(AuthorityError):  # the next trim tries again
                await self._store.trim_events()

    def _end_streams_if_unfit(self) -> None:
        if self._readiness.fault() is not None:
            for guard in self._guards:
                guard.recheck_streams()

    def _access_changed(self) -> None:
        for guard in self._guards:
            guard.recheck_streams()


def _authorizer(options: ListenOptions, readiness: Readiness) -> Authorizer:
    access = options.access
    open_to_all = everybody()
    return Authorizer(
        (lambda: open_to_all) if access is None else (lambda: access.current),
        plaintext_tokens=options.plaintext_tokens,
        refuse_if_unfit=readiness.refuse_if_unfit,
    )
