"""Puts a relay together and runs it, until it is told to stop."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

from session_authority import logs
from session_authority.config import Settings
from session_authority.metrics import Metrics
from session_authority.relay.deliverer import Relay
from session_authority.relay.endpoints import Endpoint
from session_authority.relay.webhooks import Sender
from session_authority.server import now, serve_metrics
from session_authority.store import Deliveries, EventLog, Keys, Limits, connect

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def deliveries_of(settings: Settings) -> AsyncIterator[tuple[Deliveries, EventLog]]:
    """The state of deliveries, and the log, in the Redis that is set."""
    assert settings.redis_url is not None  # the command line sees to it
    limits = Limits(reply_timeout=settings.redis_timeout, max_connections=settings.redis_connections)
    client, keys = connect(settings.redis_url.get_secret_value(), limits), Keys(settings.redis_prefix)
    deliveries = Deliveries(client, keys, max_connections=settings.redis_connections)
    try:
        yield deliveries, EventLog(client, keys)
    finally:
        await deliveries.close()


async def run_relay(settings: Settings, endpoints: Sequence[Endpoint], ready: Callable[[], None]) -> None:
    """Delivers events to the endpoints until SIGTERM or SIGINT; tells `ready` once it has begun. Raises CannotListen."""
    logs.watch_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics = Metrics()
    if settings.metrics_listen is not None:
        serve_metrics(metrics, settings.metrics_listen)
    name = f"{socket.gethostname()}-{secrets.token_hex(6)}"
    async with deliveries_of(settings) as (deliveries, log):
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
        ready()
        await relay.run(stop)
    _log.info("stopped")
