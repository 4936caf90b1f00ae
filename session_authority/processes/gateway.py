"""Assembles a gateway from its configuration, and runs the gateway until the process gets SIGTERM
or SIGINT.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import structlog
import uvicorn

from session_authority.gateway.configuration import GatewayConfig, GrpcTable, ListenTable
from session_authority.gateway.decision import Gateway
from session_authority.gateway.ext_authz.check import Checks
from session_authority.gateway.forward_auth import ForwardAuth
from session_authority.gateway.jwks import JWKS_PATH, jwks_app
from session_authority.gateway.metrics import GatewayMetrics
from session_authority.gateway.oauth import OAuth
from session_authority.gateway.web import App, GatewayApp, Health
from session_authority.processes.ext_authz_server import ExtAuthzServer
from session_authority.processes.gateway_keys import AssertionKeys
from session_authority.processes.listening import CannotListen, refuse_taken
from session_authority.processes.signals import stop_on_signal
from session_authority.runtime import descriptors, logs
from session_authority.runtime.addresses import Listen
from session_authority.runtime.metrics_server import serve_metrics
from session_authority_client import AsyncSessionAuthority, SessionAuthorityError

_log = structlog.get_logger(__name__)

# Browsers keep about 64 KiB of cookies for a site at most, and a request can have all these
# cookies. The rest of this limit is for the other headers of the browser, and for the headers of
# the proxy.
_MAX_HEADER_BYTES = 128 * 1024
_BACKLOG = 2048
# An idle connection must be closed by the proxy, and not by the gateway. If the gateway closed a
# connection at the moment when the proxy sends a request on this connection, the request would
# fail. By default, Envoy closes an idle connection after an hour, so the gateway waits for more
# than an hour.
_KEEP_ALIVE_SECONDS = 3700
# Until the service answers for the first time, the gateway calls the service at this interval.
_PROBE_SECONDS = 1.0
# The gateway validates this text in order to find out whether the service answers. The text is no
# valid token. The service finds this without a call of Redis, so the validation costs little.
_NO_TOKEN = "-"
_CLIENT = "session_authority_client"


class _HttpServer(uvicorn.Server):
    """An HTTP server that installs no signal handlers. `run_gateway` handles the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing, and replaces uvicorn's method, which would handle the signals."""
        yield


class _ClientLog(logging.Handler):
    """Copies the log records of the service's Python client, for example about an outage, into the
    log of this process.

    The records of the Python client name no end user and no token.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one log record of the Python client into the log of this process."""
        _log.log(record.levelno, record.getMessage())


def _show_client_log() -> None:
    logger = logging.getLogger(_CLIENT)
    logger.addHandler(_ClientLog())
    # The Python client logs some refused requests at the level INFO. At the level INFO, browsers
    # and programs could fill the log with such records.
    logger.setLevel(logging.WARNING)
    logger.propagate = False


@asynccontextmanager
async def authority_of(config: GatewayConfig) -> AsyncIterator[AsyncSessionAuthority]:
    """Opens a client of the service, with the near cache from the configuration. Closes the client
    at the end of the block.
    """
    table = config.authority
    client = AsyncSessionAuthority(
        table.address, timeout=table.timeout, cache=table.cache(), **table.credentials()
    )
    async with client:
        yield client


async def answers_of(authority: AsyncSessionAuthority) -> str:
    """Calls the service once, to find out whether it answers. Returns an empty text if the service
    answers, or else the reason why the call failed.
    """
    try:
        await authority.validate_session(_NO_TOKEN, "")
    except SessionAuthorityError as error:
        return error.reason or error.code.name
    return ""


async def run_gateway(config: GatewayConfig, metrics_listen: Listen | None) -> None:
    """Answers proxies until the process gets SIGTERM or SIGINT. Raises CannotListen if the gateway
    can't listen at an address. Raises KeyringError if the keys of assertions can't be used.
    """
    descriptors.raise_limit()
    logs.watch_loop()
    _show_client_log()
    stop = stop_on_signal()
    metrics, health = GatewayMetrics(), Health()
    if metrics_listen is not None:
        _serve_metrics(metrics, metrics_listen)
    keys = None if config.assertions is None else AssertionKeys(config.assertions)
    sockets = [] if config.http is None else _sockets(config.http)
    ext_authz: ExtAuthzServer | None = None
    try:
        async with authority_of(config) as authority:
            flow = config.client_flow()
            gateway = Gateway(
                authority,
                flow,
                routes=config.routes(),
                assertions=None if keys is None else keys.assertions,
                metrics=metrics,
            )
            if config.grpc is not None:
                ext_authz = await _serve_ext_authz(gateway, config.grpc)
            background = [asyncio.create_task(_become_ready(authority, health))]
            apps: list[tuple[str, App]] = []
            if keys is not None:
                background.append(asyncio.create_task(keys.keep_up()))
                apps.append((JWKS_PATH, jwks_app(keys.jwks)))
            if config.oauth_callers:
                apps += OAuth(authority, config.callers()).apps()
            app = GatewayApp(ForwardAuth(gateway), authority, flow, health, apps)
            serving = asyncio.create_task(_serve_http(app, config.drain_timeout, sockets, stop))
            await stop.wait()
            health.ready = False
            for task in background:
                task.cancel()
            if ext_authz is not None:
                await ext_authz.stop(config.drain_timeout.total_seconds())
            await serving
    finally:
        _close(sockets, config.http)
    _log.info("stopped")


async def _serve_ext_authz(gateway: Gateway, table: GrpcTable) -> ExtAuthzServer:
    """Starts the server that answers Envoy over gRPC. Raises CannotListen if the server can't
    listen at an address of the table.
    """
    server = ExtAuthzServer(Checks(gateway, error_responses=table.on_outage == "response"))
    _log.info("listening", grpc=await server.start(table))
    return server


async def _become_ready(authority: AsyncSessionAuthority, health: Health) -> None:
    """Calls the service again and again until it answers, and then marks the gateway as ready."""
    last = ""
    while failure := await answers_of(authority):
        if failure != last:
            _log.warning("authority_does_not_answer", reason=failure)
        last = failure
        await asyncio.sleep(_PROBE_SECONDS)
    health.ready = True
    _log.info("ready")


async def _serve_http(
    app: App, drain_timeout: timedelta, sockets: Sequence[socket.socket], stop: asyncio.Event
) -> None:
    """Serves HTTP until `stop` is set. Requests that are under way when `stop` is set may finish
    within `drain_timeout`.
    """
    server = _HttpServer(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
            timeout_graceful_shutdown=max(1, round(drain_timeout.total_seconds())),
        )
    )
    serving = asyncio.create_task(server.serve(sockets=list(sockets)))
    _log.info("listening", http=[_name_of(each) for each in sockets])
    await stop.wait()
    server.should_exit = True
    await serving


def _close(sockets: Sequence[socket.socket], table: ListenTable | None) -> None:
    for each in sockets:
        each.close()
    if table is not None and table.unix_socket is not None:
        table.unix_socket.unlink(missing_ok=True)


def _sockets(table: ListenTable) -> Sequence[socket.socket]:
    """Opens listening sockets at the addresses of a table. Raises CannotListen if the process can't
    listen at an address.
    """
    found = []
    if table.listen is not None:
        found.append(_tcp_socket(table.listen))
    if table.unix_socket is not None:
        found.append(_unix_socket(table.unix_socket))
    return found


def _tcp_socket(listen: Listen) -> socket.socket:
    refuse_taken(listen)
    [(family, kind, _, _, address), *_] = socket.getaddrinfo(
        listen.host, listen.port, type=socket.SOCK_STREAM
    )
    made = socket.socket(family, kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        raise CannotListen(f"can't listen on {listen}: {error.strerror}") from None
    made.listen(_BACKLOG)
    return made


def _unix_socket(path: Path) -> socket.socket:
    """Opens a listening unix socket that the group of its file may use, too. A proxy usually runs
    as another user than the gateway.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(path):
            path.unlink()
        made.bind(str(path))
        path.chmod(0o660)
    except OSError as error:
        made.close()
        raise CannotListen(f"can't listen on {path}: {os.strerror(error.errno or 0)}") from None
    made.listen(_BACKLOG)
    return made


def _is_stale(path: Path) -> bool:
    """Returns True if the path is a unix socket at which no process listens. A gateway that was
    killed leaves such a socket.
    """
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.connect(str(path))
        return False
    return True


def _name_of(listening: socket.socket) -> str:
    name = listening.getsockname()
    return name if isinstance(name, str) else str(Listen(name[0], name[1]))


def _serve_metrics(metrics: GatewayMetrics, listen: Listen) -> None:
    try:
        serve_metrics(metrics.registry, listen.host, listen.port)
    except OSError as error:
        raise CannotListen(f"can't listen on {listen} for metrics: {error.strerror}") from None
