"""Puts a relay together and runs it, until it is told to stop."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from session_authority.processes.listening import serve_metrics
from session_authority.processes.signals import stop_on_signal
from session_authority.processes.wiring import connect_as_set, show_traffic
from session_authority.relay import Endpoint, Relay, Sender
from session_authority.runtime import descriptors, logs
from session_authority.runtime.clock import now
from session_authority.runtime.relay_metrics import RelayMetrics
from session_authority.runtime.settings import Settings
from session_authority.store import Deliveries, EventLog

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def deliveries_of(
    settings: Settings, metrics: RelayMetrics | None = None
) -> AsyncIterator[tuple[Deliveries, EventLog]]:
    """The state of deliveries, and the log, in the Redis that is set."""
    client, keys = connect_as_set(settings)
    if metrics is not None:
        show_traffic(client, metrics)
    detail = settings.store_addresses
    deliveries = Deliveries(
        client, keys, max_connections=settings.redis_connections, addresses=detail
    )
    try:
        yield deliveries, EventLog(client, keys, settings.event_memory, detail)
    finally:
        await deliveries.close()


async def run_relay(settings: Settings, endpoints: Sequence[Endpoint]) -> None:
    """Delivers events to the endpoints until SIGTERM or SIGINT. Raises CannotListen."""
    descriptors.raise_limit()
    logs.watch_loop()
    stop = stop_on_signal()
    metrics = RelayMetrics()
    metrics.name_build(acceptor="")
    if settings.metrics_listen is not None:
        serve_metrics(metrics, settings.metrics_listen)
    name = f"{socket.gethostname()}-{secrets.token_hex(6)}"
    async with deliveries_of(settings, metrics) as (deliveries, log):
        relay = Relay(
            name,
            deliveries,
            log,
            [(endpoint, Sender(endpoint)) for endpoint in endpoints],
            source=settings.issuer,
            clock=now,
            metrics=metrics,
        )
        _log.info("relaying", relay=name, endpoints=[endpoint.name for endpoint in endpoints])
        watching = asyncio.create_task(metrics.watch_loop())
        try:
            await relay.run(stop)
        finally:
            watching.cancel()
    _log.info("stopped")
