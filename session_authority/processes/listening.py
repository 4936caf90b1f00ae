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
    """The process can't listen at an address, or can't protect the metrics there as the settings
    say.
    """


_REASONS = {
    errno.EADDRINUSE: "the port is taken",
    errno.EADDRNOTAVAIL: "the address is not this machine's",
    errno.EACCES: "this user may not listen on the port",
}


def refuse_taken(listen: Listen) -> None:
    """Raises CannotListen if this process can't listen at this address. For example, another
    process listens there, the host has no address, the address is not this machine's, or the user
    may not listen on the port.

    Without this check, several workers would silently share the port with that process. With one
    worker, gRPC would print an error line of its own.
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
    """Raises CannotListen if a process listens at the unix socket, as gRPC would replace the
    socket.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.connect(str(path))
        raise CannotListen(f"can't listen on {path}: another process does")


def bind(
    server: grpc.aio.Server, listen: Listen, credentials: grpc.ServerCredentials | None
) -> Listen:
    """Listens at the address, and returns the address with the bound port. Raises CannotListen.

    Without credentials the port is plaintext.
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
    """Serves metrics over HTTP if the settings name an address for them. Raises CannotListen."""
    listen = settings.metrics_listen
    if listen is None:
        return
    tls = None
    try:
        if settings.metrics_tls:
            assert settings.tls_certificate is not None  # the settings require it
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
