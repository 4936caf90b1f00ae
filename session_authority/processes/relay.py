"""Assembles a relay, and runs it until the process gets SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import NoReturn

import structlog

from session_authority.domain.errors import StoreUnavailable
from session_authority.processes.listening import serve_metrics
from session_authority.processes.signals import stop_on_signal
from session_authority.processes.wiring import connect_as_set, show_traffic
from session_authority.relay import Endpoint, Relay, Sender
from session_authority.runtime import descriptors, logs
from session_authority.runtime.clock import now
from session_authority.runtime.relay_metrics import RelayMetrics
from session_authority.runtime.settings import Settings
from session_authority.runtime.tasks import repeat
from session_authority.runtime.tracing import tracing
from session_authority.store import Backlogs, Deliveries, EventLog

# The backlogs are read at this interval. Reading the backlogs costs Redis some tenths of a
# millisecond for each endpoint. Prometheus usually does not scrape more often.
BACKLOG_INTERVAL = timedelta(seconds=15)

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def deliveries_of(
    settings: Settings, metrics: RelayMetrics | None = None
) -> AsyncIterator[tuple[Deliveries, EventLog]]:
    """Opens the state of deliveries and the event log in the Redis that the settings name. Closes
    the connections to Redis at the end of the block.
    """
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


async def show_backlogs(
    backlogs: Backlogs, endpoints: Sequence[str], metrics: RelayMetrics
) -> None:
    """Updates the metrics about the backlogs of endpoints: the number and the largest age of
    undelivered events, and the number of dead letters. If the store gives no answer, the backlogs
    are removed from the metrics.
    """
    try:
        found = await backlogs.look(endpoints)
    except StoreUnavailable:  # the store logs this error
        metrics.forget_backlogs()
        return
    moment = now()
    for endpoint, backlog in found.items():
        age = timedelta() if backlog.oldest_at is None else moment - backlog.oldest_at
        metrics.backlog.labels(endpoint).set(backlog.events)
        metrics.oldest.labels(endpoint).set(max(age, timedelta()).total_seconds())
        metrics.dead_letters.labels(endpoint).set(backlog.dead_letters)


async def _watch_backlogs(
    backlogs: Backlogs, endpoints: Sequence[str], metrics: RelayMetrics
) -> NoReturn:
    look = partial(show_backlogs, backlogs, endpoints, metrics)
    await look()
    await repeat(look, BACKLOG_INTERVAL.total_seconds(), "backlog_failed")


async def run_relay(settings: Settings, endpoints: Sequence[Endpoint]) -> None:
    """Delivers events to the endpoints until the process gets SIGTERM or SIGINT. Raises
    CannotListen if the metrics can't be served. Raises TracingError if tracing can't work with its
    settings.
    """
    descriptors.raise_limit()
    logs.watch_loop()
    stop = stop_on_signal()
    metrics = RelayMetrics()
    metrics.name_build(acceptor="")
    serve_metrics(metrics.registry, settings)
    name = f"{socket.gethostname()}-{secrets.token_hex(6)}"
    with tracing(settings.tracing):
        await _deliver(settings, endpoints, name, metrics, stop)
    _log.info("stopped")


async def _deliver(
    settings: Settings,
    endpoints: Sequence[Endpoint],
    name: str,
    metrics: RelayMetrics,
    stop: asyncio.Event,
) -> None:
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
        names = [endpoint.name for endpoint in endpoints]
        watching = [asyncio.create_task(metrics.watch_loop())]
        if settings.metrics_listen is not None:
            backlogs = _watch_backlogs(Backlogs(deliveries), names, metrics)
            watching.append(asyncio.create_task(backlogs))
        try:
            await relay.run(stop)
        finally:
            for task in watching:
                task.cancel()
