"""Makes grpc.aio servers with limits and certificates. If the acceptor is `Acceptor.STANDING`,
standing tasks answer the busiest methods of a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from session_authority.rpc import Capacity, Guard
from session_authority.rpc.unary import MAX_BATCH_BYTES
from session_authority.runtime import logs
from session_authority.runtime.settings import Acceptor
from session_authority.runtime.tls import Certificates, TlsSource

# gRPC's limit of a message is this much above the limit of the service. So if a request is slightly
# over the limit of the service, the caller gets the service's own error, which is clearer than
# gRPC's error.
_SPARE_BYTES = 64 * 1024
# Standing tasks answer these methods. Apps call these methods while requests of end users wait.
STANDING_METHODS = frozenset({"ValidateSession", "BatchValidateSessions", "RenewSession"})

if TYPE_CHECKING:
    from session_authority.rpc.acceptor import StandingServer

_log = structlog.get_logger(__name__)


async def acceptor_that_works(wanted: Acceptor) -> Acceptor:
    """Returns `wanted`, or `Acceptor.STOCK` if standing tasks are wanted but do not work with the
    installed release of grpc. STOCK is grpc.aio's own acceptor.
    """
    if wanted is Acceptor.STANDING:
        try:
            # Even this import may fail if the internals of the installed release of grpc are
            # different.
            from session_authority.rpc.acceptor_check import check

            await check()
        except Exception as error:  # noqa: BLE001 - whatever fails, grpc.aio's own acceptor works
            _log.warning("standing_acceptor_unfit", grpcio=grpc.__version__, **logs.fault(error))
            return Acceptor.STOCK
    return wanted


def new_server(
    guard: Guard, capacity: Capacity, acceptor: Acceptor, *, share_port: bool
) -> tuple[grpc.aio.Server, MethodsByName]:
    """Returns a server whose calls first pass `guard`, and the object to which the server's methods
    are added.
    """
    options = server_options(capacity, share_port=share_port)
    if acceptor is Acceptor.STOCK:
        server = grpc.aio.server(interceptors=[guard], options=options)
        return server, MethodsByName(server)
    from session_authority.rpc.acceptor import standing_server

    server, core = standing_server([guard], options, _log_fault)
    return server, StandingMethods(server, core, guard)


def _log_fault(error: Exception) -> None:
    _log.error("call_failed", **logs.fault(error))


class MethodsByName:
    """Adds methods to a server, and makes the server find them by their names.

    Generated code adds each method as a generic handler, and also registers the method with
    grpc.aio. For registered methods, grpc.aio would wait for the next call of each method
    separately. For every call, grpc.aio would set up and end as many waits as there are methods. So
    this class drops the registration.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Adds methods that the server finds by their names."""
        self._server.add_generic_rpc_handlers(tuple(handlers))

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Does nothing, as generated code also adds these methods as generic handlers."""


class StandingMethods(MethodsByName):
    """Adds methods like `MethodsByName`, and makes standing tasks answer the methods in
    STANDING_METHODS.
    """

    def __init__(self, server: grpc.aio.Server, core: StandingServer, guard: Guard) -> None:
        super().__init__(server)
        self._core = core
        self._guard = guard

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Makes standing tasks answer the methods in `handlers` that STANDING_METHODS names."""
        for name in STANDING_METHODS & handlers.keys():
            path = f"/{service}/{name}"
            method = self._guard.unary(path, handlers[name])
            self._core.answer(path, method.answer, method.sent)


def server_options(capacity: Capacity, *, share_port: bool) -> list[tuple[str, int]]:
    """Returns gRPC's options for the limits of a server. The guard checks the limits of single
    methods.
    """
    return [
        ("grpc.max_receive_message_length", MAX_BATCH_BYTES + _SPARE_BYTES),
        ("grpc.max_send_message_length", MAX_BATCH_BYTES + _SPARE_BYTES),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.absolute_max_metadata_size", 16 * 1024),
        ("grpc.max_concurrent_streams", capacity.per_connection),
        # The limit of connections of each port. gRPC closes further connections at once.
        ("grpc.max_allowed_incoming_connections", capacity.connections),
        # A connection may have up to this many calls that are just ending, in addition to its limit
        # of calls.
        ("grpc.http2.max_deallocating_streams", 1000),
        # A client that connects but does not finish the handshake within this time is disconnected.
        ("grpc.server_handshake_timeout_ms", 5_000),
        # The next three limits are for calls that have arrived, but that this process has not taken
        # from gRPC yet. If more calls wait than the first number, gRPC refuses some of the calls.
        # If more calls wait than the second number, gRPC refuses all further calls. The third
        # number is in seconds: gRPC drops a call that has waited this long.
        ("grpc.server.max_pending_requests", 1000),
        ("grpc.server.max_pending_requests_hard_limit", 2000),
        ("grpc.server_max_unrequested_time_in_server", 5),
        # Clients may send a ping at this interval to keep an idle connection open. A client that
        # repeatedly sends pings at shorter intervals is disconnected.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A connection is closed after half an hour. The client then connects again, perhaps to a
        # server that was started later.
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 30_000),
        ("grpc.so_reuseport", int(share_port)),
    ]


def server_credentials(
    tls: TlsSource | None, *, ask_for_certificates: bool = True
) -> grpc.ServerCredentials | None:
    """Returns the credentials of a port, or None for a plaintext port if `tls` is None. If the
    certificates include a CA for clients, each client must present a certificate of this CA, unless
    `ask_for_certificates` is False.

    A new connection uses the certificates that are current when the connection is made.
    """
    if tls is None:
        return None
    given = tls.current

    def news() -> grpc.ServerCertificateConfiguration | None:
        """Returns the current certificates, or None if they have not changed since the last call. A
        thread of gRPC calls this function at each handshake.
        """
        nonlocal given
        current = tls.current
        if current is given:
            return None
        given = current
        return _configuration(current)

    wanted = ask_for_certificates and given.client_ca is not None
    # The result None means that the certificates have not changed, but the type stubs of gRPC do
    # not allow None.
    ask: Any = news
    return grpc.dynamic_ssl_server_credentials(
        _configuration(given), ask, require_client_authentication=wanted
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    pair = (certificates.key, certificates.chain)
    return grpc.ssl_server_certificate_configuration(
        [pair], root_certificates=certificates.client_ca
    )
