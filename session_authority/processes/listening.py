"""Opens ports for calls and for metrics."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry

from session_authority.runtime.addresses import Listen
from session_authority.runtime.metrics_server import Protection, TlsContext, TokenError, read_token
from session_authority.runtime.metrics_server import serve_metrics as serve_registry
from session_authority.runtime.settings import Settings


class CannotListen(Exception):
    """The process can't listen at an address, or can't protect the metrics at an address with TLS
    or a token as the settings say.
    """


_REASONS = {
    errno.EADDRINUSE: "the port is taken",
    errno.EADDRNOTAVAIL: "the address is not this machine's",
    errno.EACCES: "this user may not listen on the port",
}


def refuse_taken(listen: Listen) -> None:
    """Raises CannotListen if this process can't listen at this address. For example, another
    process already listens at the address, the host name has no address, or the address belongs to
    another machine. The user may also lack the permission to listen on the port.

    Without this check, several workers would silently share the port with another process. A single
    worker would fail without this check, too, but gRPC would print an error line of its own.
    """
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM
        )
    except OSError:
        raise CannotListen(f"can't listen on {listen}: the host has no address") from None
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            number = error.errno or 0
            reason = _REASONS.get(number, os.strerror(number))
            raise CannotListen(f"can't listen on {listen}: {reason}") from None


def refuse_taken_socket(path: Path) -> None:
    """Raises CannotListen if a process already listens at the unix socket. Without this check, gRPC
    would replace the socket of the other process.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.connect(str(path))
        raise CannotListen(f"can't listen on {path}: another process does")


def bind(
    server: grpc.aio.Server, listen: Listen, credentials: grpc.ServerCredentials | None
) -> Listen:
    """Listens at the address, and returns the address with the bound port. Raises CannotListen if
    the server can't listen at the address.

    If `credentials` is None, the port is plaintext.
    """
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


def serve_metrics(registry: CollectorRegistry, settings: Settings) -> None:
    """Serves metrics over HTTP if METRICS_LISTEN is set. Raises CannotListen if the address, the
    certificate or the file with the token can't be used.
    """
    listen = settings.metrics_listen
    if listen is None:
        return
    tls = None
    try:
        if settings.metrics_tls:
            assert settings.tls_certificate is not None  # METRICS_TLS requires both files
            assert settings.tls_key is not None
            tls = TlsContext(settings.tls_certificate, settings.tls_key)
        if settings.metrics_token_file is not None:
            read_token(settings.metrics_token_file)
        protection = Protection(tls, settings.metrics_token_file)
        serve_registry(registry, listen.host, listen.port, protection)
    except TokenError as error:
        raise CannotListen(f"can't listen on {listen} for metrics: {error}") from None
    except ssl.SSLError:
        files = f"{settings.tls_certificate} and {settings.tls_key}"
        raise CannotListen(f"can't listen on {listen} for metrics: {files} don't work") from None
    except OSError as error:
        raise CannotListen(f"can't listen on {listen} for metrics: {error.strerror}") from None
