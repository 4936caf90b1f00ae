"""Puts the service together and runs it: the gRPC server, its health, the store's probe, and an orderly end.

Health is what the last probe of Redis said. At the end it turns to NOT_SERVING first, then calls under way finish, then
everything is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from session_authority import logs
from session_authority.authority import Authority
from session_authority.config import Listen, Settings
from session_authority.domain.errors import AuthorityError
from session_authority.domain.policy import LEEWAY
from session_authority.feed import Feed
from session_authority.metrics import Metrics
from session_authority.rpc import SERVICE_NAME, EventWire, Guard, SessionAuthorityService
from session_authority.rpc.interceptors import MAX_BATCH_BYTES
from session_authority.store import Client, EventLog, Keys, Limits, Store, connect
from session_authority.tokens import KeyringError, KeySource, Tokens
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

PROBE_INTERVAL = timedelta(milliseconds=500)
PROBE_TIMEOUT = timedelta(seconds=1)
MAX_CLOCK_SKEW = timedelta(seconds=5)
# What streams, which never end by themselves, get to hear of the end once all other calls are over.
_FAREWELL = timedelta(seconds=1)
_SPARE_BYTES = 64 * 1024  # a request over a method's limit should meet the service's own, clearer error

_log = structlog.get_logger(__name__)


class CannotListen(Exception):
    """The address can't be listened on."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How `dev` and `serve` differ once they run."""

    reflection: bool
    share_port: bool = False


def now() -> datetime:
    """The process's clock, cut to milliseconds: records hold no more."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def build_authority(settings: Settings, store: Store, source: KeySource, metrics: Metrics) -> Authority:
    """The use cases, with real time and randomness."""
    policy = settings.policy()
    tokens = Tokens(
        source,
        issuer=settings.issuer,
        audience=settings.audience,
        lifetime=policy.token_ttl + policy.idle_timeout + LEEWAY,
    )
    return Authority(
        store=store,
        tokens=tokens,
        policy=policy,
        metrics=metrics,
        clock=now,
        random_bytes=secrets.token_bytes,
    )


class Server:
    """A running service."""

    def __init__(
        self, authority: Authority, feed: Feed, store: Store, source: KeySource, metrics: Metrics, mode: Mode
    ) -> None:
        self._authority = authority
        self._store = store
        self._source = source
        self._metrics = metrics
        self._health = health.HealthServicer()
        self._serving: bool | None = None
        self._keys_fault = ""
        self._guard = Guard(metrics)
        self._server = grpc.aio.server(interceptors=[self._guard], options=_options(mode))
        pb_grpc.add_SessionAuthorityServiceServicer_to_server(SessionAuthorityService(authority, feed), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if mode.reflection:
            names = (SERVICE_NAME, HEALTH_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self._watch: asyncio.Task[None] | None = None

    async def start(self, listen: Listen) -> Listen:
        """Listens; returns the address with the port that was bound. Raises CannotListen."""
        try:
            port = self._server.add_insecure_port(str(listen))
        except RuntimeError:
            port = 0
        if port == 0:
            raise CannotListen(f"can't listen on {listen}: the port is taken or the address is not this machine's")
        await self._probe()
        await self._server.start()
        self._watch = asyncio.ensure_future(self._keep_watch())
        return listen.with_port(port)

    async def stop(self, grace: timedelta) -> None:
        """Turns to NOT_SERVING, lets calls under way finish for as long as `grace`, and writes what is pending."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.ensure_future(self._server.stop(grace.total_seconds()))
        await self._idle(grace)
        await self._server.stop(min(grace, _FAREWELL).total_seconds())
        await stopping
        await self._idle(_FAREWELL)  # handlers that were cut off: grpc cancels them, but does not wait for them
        await self._authority.settled()

    async def _idle(self, patience: timedelta) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._guard.idle(), patience.total_seconds())

    async def _keep_watch(self) -> None:
        """Probes the store and looks for new keys, again and again."""
        while True:
            await asyncio.sleep(PROBE_INTERVAL.total_seconds())
            try:
                await self._probe()
                self._refresh_keys()
                if self._serving:
                    await self._tell_of_revoked_keys()
            except Exception as error:  # noqa: BLE001 - whatever it is, health must go on telling the truth
                _log.error("watch_failed", **logs.fault(error))

    async def _probe(self) -> None:
        trouble = await self._trouble()
        serving = trouble is None
        if serving is self._serving:
            return
        self._serving = serving
        self._metrics.store_up.set(int(serving))
        if serving:
            _log.info("serving")
        else:
            _log.error("not_serving", reason=trouble)
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE_NAME):
            await self._health.set(service, status)

    async def _trouble(self) -> str | None:
        """Why the service can't serve, if it can't."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT.total_seconds()):
                times = await self._store.server_times()
        except (AuthorityError, TimeoutError):
            return "the store does not answer"
        except Exception as error:  # noqa: BLE001 - an answer that makes no sense is no sign of health either
            return f"the store can't be asked ({logs.fault(error)['error']})"
        skew = max(abs(now() - theirs) for theirs in times)
        if skew > MAX_CLOCK_SKEW:
            return f"the store's clock differs by {skew.total_seconds():.1f} s"
        return None

    async def _tell_of_revoked_keys(self) -> None:
        with contextlib.suppress(AuthorityError):  # it is tried again with the next probe
            await self._authority.tell_of_revoked_keys()

    def _refresh_keys(self) -> None:
        try:
            changed = self._source.refresh()
        except KeyringError as error:
            fault = str(error)
            if fault != self._keys_fault:  # it is looked at again and again, but told once
                _log.error("keys_not_changed", reason=fault)
            self._keys_fault = fault
            return
        self._keys_fault = ""
        if changed:
            _log.info("keys_changed")
            try:
                self._source.current.signing  # noqa: B018 - raises if there is none
            except KeyringError as error:  # a key that was taken away must be gone; but nobody can sign in now
                _log.error("no_key_signs", reason=str(error))


def _options(mode: Mode) -> list[tuple[str, int]]:
    """Limits of the gRPC server; those of single methods are the guard's."""
    return [
        ("grpc.max_receive_message_length", MAX_BATCH_BYTES + _SPARE_BYTES),
        ("grpc.max_send_message_length", MAX_BATCH_BYTES + _SPARE_BYTES),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.max_concurrent_streams", 1000),
        # Clients may ping as often as this to keep idle connections open.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Connections move on now and then, so that new servers get their share.
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 30_000),
        ("grpc.so_reuseport", int(mode.share_port)),
    ]


def connect_as_set(settings: Settings) -> tuple[Client, Keys]:
    """A client of the Redis that is set, and the names of what is in it."""
    assert settings.redis_url is not None  # the command line sees to it
    limits = Limits(reply_timeout=settings.redis_timeout, max_connections=settings.redis_connections)
    return connect(settings.redis_url.get_secret_value(), limits), Keys(settings.redis_prefix)


@asynccontextmanager
async def running(settings: Settings, mode: Mode) -> AsyncIterator[tuple[Server, Listen]]:
    """A service from its settings: listening inside, in order ended outside. Raises CannotListen, KeyringError."""
    assert settings.keys is not None  # the command line sees to it
    source = KeySource(settings.keys)
    source.current.signing  # noqa: B018 - raises if there is none
    metrics = Metrics()
    client, keys = connect_as_set(settings)
    store = Store(client, keys, max_connections=settings.redis_connections)
    try:
        authority = build_authority(settings, store, source, metrics)
        feed = Feed(EventLog(client, keys), EventWire(), now, metrics)
        server = Server(authority, feed, store, source, metrics, mode)
        if settings.metrics_listen is not None:
            serve_metrics(metrics, settings.metrics_listen)
        bound = await server.start(settings.listen)
        try:
            yield server, bound
        finally:
            await server.stop(settings.drain_timeout)
    finally:
        await store.close()


def serve_metrics(metrics: Metrics, listen: Listen) -> None:
    """Offers metrics over HTTP. Raises CannotListen."""
    try:
        metrics.serve(listen.host, listen.port)
    except OSError as error:
        raise CannotListen(f"can't listen on {listen} for metrics: {error.strerror}") from None


def stop_on_signal() -> asyncio.Event:
    """Set once SIGTERM or SIGINT comes."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def serve(settings: Settings, mode: Mode, ready: Callable[[Listen], None]) -> None:
    """Runs the service until SIGTERM or SIGINT; tells `ready` the address once it listens."""
    logs.watch_loop()
    stop = stop_on_signal()
    parent = multiprocessing.parent_process()
    if parent is not None:  # a worker must not outlive who restarts it
        loop = asyncio.get_running_loop()

        def orphaned(sentinel: int) -> None:
            loop.remove_reader(sentinel)  # it stays readable: once is enough
            stop.set()

        loop.add_reader(parent.sentinel, orphaned, parent.sentinel)
    async with running(settings, mode) as (_, listen):
        _log.info("listening", address=str(listen))
        ready(listen)
        await stop.wait()
        _log.info("stopping", drain_seconds=settings.drain_timeout.total_seconds())
    _log.info("stopped")
