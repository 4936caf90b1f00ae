"""Runs one process of the service with given settings, until a signal or a fault ends the
process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog
from prometheus_client import CollectorRegistry

from session_authority.events import Feed
from session_authority.processes.grpc_server import acceptor_that_works
from session_authority.processes.listening import serve_metrics
from session_authority.processes.options import Mode, Ports
from session_authority.processes.server import Server
from session_authority.processes.signals import (
    stop_on_signal,
    stop_with_parent,
    survive_hangup,
)
from session_authority.processes.wiring import (
    build_authority,
    connect_as_set,
    geoip_as_set,
    listen_options_as_set,
    observer_as_set,
    show_traffic,
)
from session_authority.runtime import logs
from session_authority.runtime.addresses import Listen
from session_authority.runtime.clock import SteadyClock
from session_authority.runtime.metrics import Metrics
from session_authority.runtime.settings import Settings
from session_authority.runtime.tracing import tracing
from session_authority.store import EventLog, Replicas, SessionStore
from session_authority.tokens import KeySource

Offer = Callable[[CollectorRegistry], None]

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def running(
    settings: Settings, mode: Mode, offer: Offer | None = None
) -> AsyncIterator[tuple[Server, Ports]]:
    """Runs a service from its settings. The service listens inside the block, and stops in an
    orderly way at the end of the block.

    `offer` is called with the registry of the metrics, and must serve these metrics. If `offer` is
    None, the metrics are served as the settings say.

    Raises CannotListen if the process can't listen at an address, or can't protect the metrics as
    the settings say. Raises KeyringError, AccessError, CertificateError, GeoipError or
    AuditLogError if the files that the error is about can't be used.
    """
    assert settings.keys is not None  # the command line has checked this setting
    source = KeySource(settings.keys)
    source.current.signing  # noqa: B018 - raises if no key signs
    options = listen_options_as_set(settings)
    options = replace(options, acceptor=await acceptor_that_works(options.acceptor))
    geoip = geoip_as_set(settings)
    metrics = Metrics()
    offer = offer or (lambda registry: serve_metrics(registry, settings))
    client, keys = connect_as_set(settings)
    show_traffic(client, metrics)
    store = SessionStore(
        client,
        keys,
        max_connections=settings.redis_connections,
        event_memory=settings.event_memory,
        metrics=metrics,
        replicas=Replicas(settings.replicas_ack, settings.replicas_timeout),
        addresses=settings.store_addresses,
    )
    try:
        clock = SteadyClock()
        authority = build_authority(settings, store, source, metrics, clock, geoip)
        log = EventLog(client, keys, settings.event_memory, settings.store_addresses)
        feed = Feed(log, clock, metrics)
        verify = mode.verify
        verified = None if verify is None else lambda: verify(settings)
        with observer_as_set(settings) as observer:
            server = Server(
                authority,
                feed,
                store,
                source,
                metrics,
                mode,
                options,
                verified,
                geoip,
                clock,
                observer,
            )
            offer(metrics.registry)
            bound = await server.start(
                Ports(settings.listen, settings.bearer_listen, settings.health_listen)
            )
            try:
                yield server, bound
            finally:
                await server.stop(settings.drain_timeout)
    finally:
        await store.close()


async def serve(
    settings: Settings, mode: Mode, ready: Callable[[Listen], None], offer: Offer | None = None
) -> None:
    """Runs the service until the process gets SIGTERM or SIGINT. A worker also ends when its parent
    process has ended. `ready` is called with the address when the service listens.

    Raises the errors that `running` raises. Raises TracingError if tracing can't work with its
    settings, and UnsafeStore if a probe finds the store unsafe.
    """
    logs.watch_loop()
    stop = stop_on_signal()
    stop_with_parent(stop)
    if settings.audit_log is not None:
        survive_hangup()
    with tracing(settings.tracing):
        await _serve(settings, mode, ready, stop, offer)
    _log.info("stopped")


async def _serve(
    settings: Settings,
    mode: Mode,
    ready: Callable[[Listen], None],
    stop: asyncio.Event,
    offer: Offer | None,
) -> None:
    async with running(settings, mode, offer) as (server, bound):
        others = {"bearer": bound.bearer, "health": bound.health}
        _log.info(
            "listening",
            address=str(bound.main),
            tls=settings.tls_certificate is not None,
            **{name: str(listen) for name, listen in others.items() if listen is not None},
        )
        ready(bound.main)
        ended = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(server.failure())]
        try:
            done, _ = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            for task in ended:
                task.cancel()
        _log.info("stopping", drain_seconds=settings.drain_timeout.total_seconds())
