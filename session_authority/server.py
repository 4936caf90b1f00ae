"""Puts the service together and runs it: the gRPC server and its ports, its health, what is read
again when it changes, the store's probe, and an orderly end.

Health is what the last probe of Redis said. At the end it turns to NOT_SERVING first, then calls
under way finish, then everything is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection, reflection_pb2

from session_authority.access import AccessError, AccessSource, everybody, rows_missing
from session_authority.authority import Authority
from session_authority.domain.clients import appearance
from session_authority.domain.errors import AuthorityError
from session_authority.domain.policy import LEEWAY
from session_authority.events.feed import Feed
from session_authority.rpc import SERVICE_NAME, Capacity, Doorkeeper, Guard, SessionAuthorityService
from session_authority.rpc.interceptors import MAX_BATCH_BYTES
from session_authority.runtime import logs
from session_authority.runtime.addresses import Listen
from session_authority.runtime.clock import now
from session_authority.runtime.metrics import Metrics
from session_authority.runtime.settings import Settings, Unsafe
from session_authority.runtime.tls import CertificateError, Certificates, TlsFiles, TlsSource
from session_authority.store import EventLog, KeyNames, Limits, RedisClient, SessionStore, connect
from session_authority.tokens import KeyringError, KeySource, Tokens
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

PROBE_INTERVAL = timedelta(milliseconds=500)
PROBE_TIMEOUT = timedelta(seconds=1)
MAX_CLOCK_SKEW = timedelta(seconds=5)
# What health is told of: the server as a whole, and its service.
_HEALTH_OF = ("", SERVICE_NAME)
# For streams to hear of the end, once all other calls are over; and for what is cut off to notice.
_FAREWELL = timedelta(milliseconds=100)
_CUT_OFF = timedelta(seconds=1)
_SPARE_BYTES = (
    64 * 1024
)  # a request over a method's limit should meet the service's own, clearer error

_log = structlog.get_logger(__name__)


class CannotListen(Exception):
    """The address can't be listened on."""


class UnsafeStore(Exception):
    """The store turned out to be one that sessions must not be kept in; the message has a line for
    each fault.
    """


class UncoveredRpcs(Exception):
    """The access table says nothing of some RPCs: nobody would know who may call them."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How `dev` and `serve` differ once they run.

    `verify` is asked when the store answers for the first time: what makes it unsafe, which ends
    the service. It raises StoreUnavailable if that can't be told yet.
    """

    reflection: bool
    share_port: bool = False
    verify: Callable[[Settings], Awaitable[Sequence[str]]] | None = None


@dataclass(frozen=True, slots=True)
class Doors:
    """Who is let in, over what, and how many at once. Without `access` anyone may do everything;
    without `tls` all is plaintext.
    """

    access: AccessSource | None = None
    tls: TlsSource | None = None
    capacity: Capacity = field(default_factory=Capacity)
    plaintext_tokens: bool = False


@dataclass(frozen=True, slots=True)
class Ports:
    """Where to listen, or where it listens: for calls; for calls with bearer tokens, where the
    first wants certificates; and, in plaintext, for questions after its health and nothing else.
    """

    main: Listen
    bearer: Listen | None = None
    health: Listen | None = None


def build_authority(
    settings: Settings, store: SessionStore, source: KeySource, metrics: Metrics
) -> Authority:
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


class _Source(Protocol):
    """Files that may change; the version counts how often they did, `pending` is a change that is
    not taken yet.
    """

    version: int
    pending: bool

    def refresh(self) -> bool:
        """Reads them again if they changed, and says whether they did; raises if they are
        broken.
        """


class _ByName:
    """A server that finds methods by their names alone.

    Generated code registers each method too, and grpc.aio then waits for the next call of each on
    its own: for every call that arrives it sets up and takes down as many waits as there are
    methods.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Takes the methods."""
        self._server.add_generic_rpc_handlers(tuple(handlers))

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Leaves them out here: they are all among the others."""


class _Watched:
    """Looks for changes of files. What is broken about them is told once, loudly, and changes
    nothing.
    """

    def __init__(self, what: str, source: _Source, metrics: Metrics) -> None:
        self._what = what
        self._source = source
        self._version = source.version
        self._fault = ""
        self._broken = metrics.files_broken.labels(what)

    def look(self) -> bool:
        """Whether there is something new, and it is in force."""
        try:
            self._source.refresh()
        except (KeyringError, AccessError, CertificateError, OSError) as error:
            fault = error.strerror or "can't be read" if isinstance(error, OSError) else str(error)
            if fault != self._fault:
                _log.error(f"{self._what}_not_changed", reason=fault)
            self._fault = fault
            self._broken.set(1)
            return False
        if self._source.pending:
            return False
        self._fault = ""
        self._broken.set(0)
        if self._version == self._source.version:
            return False
        self._version = self._source.version
        _log.info(f"{self._what}_changed")
        return True


class _Health(health.HealthServicer):
    """gRPC's own, with the method that it leaves out."""

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        """What `Check` says of each."""
        messages: Any = health_pb2  # its types don't know this method either
        asked = {service: messages.HealthCheckRequest(service=service) for service in _HEALTH_OF}
        return messages.HealthListResponse(
            statuses={s: await self.Check(ask, context) for s, ask in asked.items()}
        )


class Server:
    """A running service. Raises UncoveredRpcs rather than offer an RPC that the access table does
    not name.
    """

    def __init__(
        self,
        authority: Authority,
        feed: Feed,
        store: SessionStore,
        source: KeySource,
        metrics: Metrics,
        mode: Mode,
        doors: Doors,
        verify: Callable[[], Awaitable[Sequence[str]]] | None = None,
    ) -> None:
        self._verify = verify
        self._unsafe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._authority = authority
        self._store = store
        self._source = source
        self._metrics = metrics
        self._doors = doors
        self._health = _Health()
        self._serving: bool | None = None
        access = doors.access
        open_to_all = everybody()
        self._door = Doorkeeper(
            (lambda: open_to_all) if access is None else (lambda: access.current),
            plaintext_tokens=doors.plaintext_tokens,
        )
        self._mode = mode
        self._guards: list[Guard] = []
        self._servers: list[grpc.aio.Server] = []
        self._server = self._another_server()
        pb_grpc.add_SessionAuthorityServiceServicer_to_server(
            SessionAuthorityService(authority, feed), _ByName(self._server)
        )
        services: list[Any] = [pb.DESCRIPTOR.services_by_name["SessionAuthorityService"]]
        self._offer_health(self._server)
        services.append(health_pb2.DESCRIPTOR.services_by_name["Health"])
        if mode.reflection:
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
        self._keys = _Watched("keys", source, metrics)
        self._access = None if access is None else _Watched("access", access, metrics)
        self._certificates = (
            None if doors.tls is None else _Watched("certificates", doors.tls, metrics)
        )
        self._watch: asyncio.Task[None] | None = None

    def _offer_health(self, server: grpc.aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._health, _ByName(server))  # type: ignore[arg-type]

    async def start(self, ports: Ports) -> Ports:
        """Listens; returns the addresses with the ports that were bound. Raises CannotListen."""
        tls = self._doors.tls
        bound = Ports(
            main=self._bind(self._server, ports.main, _credentials(tls)),
            bearer=self._bind_if(
                self._server, ports.bearer, _credentials(tls, ask_for_certificates=False)
            ),
            health=(
                None
                if ports.health is None
                else self._bind(self._health_server(), ports.health, None)
            ),
        )
        self._tell_certificate_end()
        self._tell_tokens_of_nobody()
        await self._probe()
        appearance("Mozilla/5.0")  # its first reading takes longer than callers have patience
        for server in self._servers:
            await server.start()
        self._watch = asyncio.ensure_future(self._keep_watch())
        return bound

    def _health_server(self) -> grpc.aio.Server:
        """Another server, that has health and nothing else."""
        server = self._another_server()
        self._offer_health(server)
        return server

    def _another_server(self) -> grpc.aio.Server:
        """With a guard of its own: one remembers the methods of its server, and no port has those
        of another.
        """
        guard = Guard(self._metrics, self._door, self._doors.capacity)
        server = grpc.aio.server(
            interceptors=[guard], options=_options(self._mode, self._doors.capacity)
        )
        self._guards.append(guard)
        self._servers.append(server)
        return server

    def _bind(
        self, server: grpc.aio.Server, listen: Listen, credentials: grpc.ServerCredentials | None
    ) -> Listen:
        try:
            if credentials is None:
                port = server.add_insecure_port(str(listen))
            else:
                port = server.add_secure_port(str(listen), credentials)
        except RuntimeError:
            port = 0
        if port == 0:
            raise CannotListen(
                f"can't listen on {listen}: the port is taken or the address is not this machine's"
            )
        return listen.with_port(port)

    def _bind_if(
        self,
        server: grpc.aio.Server,
        listen: Listen | None,
        credentials: grpc.ServerCredentials | None,
    ) -> Listen | None:
        return None if listen is None else self._bind(server, listen, credentials)

    async def failure(self) -> None:
        """Waits, as a rule for ever, until the service must end. Raises UnsafeStore."""
        await asyncio.shield(self._unsafe)

    async def stop(self, grace: timedelta) -> None:
        """Turns to NOT_SERVING, lets calls under way finish for as long as `grace`, and writes what
        is pending.
        """
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._health.enter_graceful_shutdown()
        # Each is stopped once and no more: a second call of grpc.aio's `stop` can find the server
        # destroyed by the first, and crash the process.
        stopping = asyncio.gather(*(server.stop(grace.total_seconds()) for server in self._servers))
        await self._idle(grace)
        if any(guard.is_streaming for guard in self._guards):
            await asyncio.sleep(
                _FAREWELL.total_seconds()
            )  # those that watch its health hear that it is not serving
            for guard in self._guards:
                guard.end_streams()
        await stopping
        await self._idle(
            _CUT_OFF
        )  # handlers that were cut off: grpc cancels them, but does not wait for them
        await self._authority.settled()

    async def _idle(self, patience: timedelta) -> None:
        with contextlib.suppress(TimeoutError):
            idle = asyncio.gather(*(guard.idle() for guard in self._guards))
            await asyncio.wait_for(idle, patience.total_seconds())

    async def _keep_watch(self) -> None:
        """Probes the store and looks for changed files, again and again. Neither waits for the
        other.
        """

        async def probe() -> None:
            await self._probe()
            if self._serving:
                await self._tell_of_revoked_keys()

        looks = (self._look_at_access, self._look_at_keys, self._look_at_certificates)
        await asyncio.gather(_again_and_again(probe), *map(_again_and_again, looks))

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
        status = (
            health_pb2.HealthCheckResponse.SERVING
            if serving
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for service in _HEALTH_OF:
            await self._health.set(service, status)

    async def _trouble(self) -> str | None:
        """Why the service can't serve, if it can't."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT.total_seconds()):
                times = await self._store.server_times()
        except (AuthorityError, TimeoutError):
            return "the store does not answer, or refuses"
        except Exception as error:  # noqa: BLE001 - an answer that makes no sense is no sign of health either
            return f"the store can't be asked ({logs.fault(error)['error']})"
        skew = max(abs(now() - theirs) for theirs in times)
        if skew > MAX_CLOCK_SKEW:
            return f"the store's clock differs by {skew.total_seconds():.1f} s"
        return await self._verified()

    async def _verified(self) -> str | None:
        """Why the store must not be used, if that has just turned out."""
        if self._verify is None:
            return None
        try:
            faults = await self._verify()
        except AuthorityError:
            return "the store does not answer"
        if not faults:
            self._verify = None
            return None
        if not self._unsafe.done():
            self._unsafe.set_exception(UnsafeStore("\n".join(faults)))
            self._unsafe.exception()  # whoever asked may have gone
        return f"the store is unsafe: {'; '.join(faults)}"

    async def _tell_of_revoked_keys(self) -> None:
        with contextlib.suppress(AuthorityError):  # it is tried again with the next probe
            await self._authority.tell_of_revoked_keys()

    async def _look_at_access(self) -> None:
        if self._access is None or self._doors.access is None or not self._access.look():
            return
        for guard in self._guards:
            guard.access_changed()
        self._tell_tokens_of_nobody()

    def _tell_tokens_of_nobody(self) -> None:
        if self._doors.access is not None and (unknown := self._doors.access.current.unknown):
            _log.error("tokens_of_nobody", callers=sorted(unknown))

    async def _look_at_keys(self) -> None:
        if self._keys.look():
            try:
                self._source.current.signing  # noqa: B018 - raises if there is none
            except (
                KeyringError
            ) as error:  # a key that was taken away must be gone; but nobody can sign in now
                _log.error("no_key_signs", reason=str(error))

    async def _look_at_certificates(self) -> None:
        if self._certificates is not None and self._certificates.look():
            self._tell_certificate_end()

    def _tell_certificate_end(self) -> None:
        if self._doors.tls is not None:
            self._metrics.certificate_end.set(self._doors.tls.current.ends.timestamp())


async def _again_and_again(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(PROBE_INTERVAL.total_seconds())
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it is, health must go on telling the truth
            _log.error("watch_failed", **logs.fault(error))


def _credentials(
    tls: TlsSource | None, *, ask_for_certificates: bool = True
) -> grpc.ServerCredentials | None:
    """What a port speaks: always the certificates that are in force when a connection is made. None
    is plaintext.
    """
    if tls is None:
        return None
    given = tls.current

    def news() -> grpc.ServerCertificateConfiguration | None:
        """Asked at each handshake, by a thread of gRPC's."""
        nonlocal given
        current = tls.current
        if current is given:
            return None
        given = current
        return _configuration(current)

    wanted = ask_for_certificates and given.client_authority is not None
    # Its types know nothing of None, by which it hears that nothing changed.
    ask: Any = news
    return grpc.dynamic_ssl_server_credentials(
        _configuration(given), ask, require_client_authentication=wanted
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    pair = (certificates.key, certificates.chain)
    return grpc.ssl_server_certificate_configuration(
        [pair], root_certificates=certificates.client_authority
    )


def _options(mode: Mode, capacity: Capacity) -> list[tuple[str, int]]:
    """Limits of the gRPC server; those of single methods are the guard's."""
    return [
        ("grpc.max_receive_message_length", MAX_BATCH_BYTES + _SPARE_BYTES),
        ("grpc.max_send_message_length", MAX_BATCH_BYTES + _SPARE_BYTES),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.absolute_max_metadata_size", 16 * 1024),
        ("grpc.max_concurrent_streams", capacity.per_connection),
        # Calls that are just being taken down don't count against a client that keeps to that.
        ("grpc.http2.max_deallocating_streams", 1000),
        # Who connects and then says nothing is hung up on.
        ("grpc.server_handshake_timeout_ms", 5_000),
        # Calls that wait for this process to get to them: from the first number on more and more
        # are refused, from the second on all, and those that have waited so many seconds are given
        # up.
        ("grpc.server.max_pending_requests", 1000),
        ("grpc.server.max_pending_requests_hard_limit", 2000),
        ("grpc.server_max_unrequested_time_in_server", 5),
        # Clients may ping as often as this to keep idle connections open; who goes on more often is
        # hung up on.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Connections move on now and then, so that new servers get their share.
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 30_000),
        ("grpc.so_reuseport", int(mode.share_port)),
    ]


def connect_as_set(settings: Settings) -> tuple[RedisClient, KeyNames]:
    """A client of the Redis that is set, and the names of what is in it."""
    assert settings.redis_url is not None  # the command line sees to it
    limits = Limits(
        reply_timeout=settings.redis_timeout, max_connections=settings.redis_connections
    )
    return connect(settings.redis_url.get_secret_value(), limits), KeyNames(settings.redis_prefix)


def doors_as_set(settings: Settings) -> Doors:
    """Who is let in and over what. Raises AccessError, CertificateError."""
    access = tls = None
    if settings.access_policy is not None:
        access = AccessSource(settings.access_policy, settings.caller_tokens)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        files = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_authority)
        tls = TlsSource(files, now)
    return Doors(
        access=access,
        tls=tls,
        capacity=Capacity(
            calls=settings.max_in_flight,
            streams=settings.max_watchers,
            per_connection=settings.max_per_connection,
        ),
        plaintext_tokens=Unsafe.PLAINTEXT in settings.allow_unsafe,
    )


@asynccontextmanager
async def running(settings: Settings, mode: Mode) -> AsyncIterator[tuple[Server, Ports]]:
    """A service from its settings: listening inside, in order ended outside.

    Raises CannotListen, KeyringError, AccessError, CertificateError.
    """
    assert settings.keys is not None  # the command line sees to it
    source = KeySource(settings.keys)
    source.current.signing  # noqa: B018 - raises if there is none
    doors = doors_as_set(settings)
    metrics = Metrics()
    client, keys = connect_as_set(settings)
    store = SessionStore(client, keys, max_connections=settings.redis_connections)
    try:
        authority = build_authority(settings, store, source, metrics)
        feed = Feed(EventLog(client, keys), now, metrics)
        verify = mode.verify
        verified = None if verify is None else lambda: verify(settings)
        server = Server(authority, feed, store, source, metrics, mode, doors, verified)
        if settings.metrics_listen is not None:
            serve_metrics(metrics, settings.metrics_listen)
        bound = await server.start(
            Ports(settings.listen, settings.bearer_listen, settings.health_listen)
        )
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
    async with running(settings, mode) as (server, bound):
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
    _log.info("stopped")
