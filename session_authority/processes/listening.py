"""Taking ports, for calls and for metrics."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

import grpc

from session_authority.runtime.addresses import Listen
from session_authority.runtime.metrics import Metrics


class CannotListen(Exception):
    """The address can't be listened on."""


_REASONS = {
    errno.EADDRINUSE: "the port is taken",
    errno.EADDRNOTAVAIL: "the address is not this machine's",
    errno.EACCES: "this user may not listen on the port",
}


def refuse_taken(listen: Listen) -> None:
    """Raises CannotListen if somebody listens there. Several workers would share the port with a
    stranger, and nobody would notice; with one worker, gRPC would print a line of its own.
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
    """Raises CannotListen if a process listens at a unix socket: gRPC would take its place."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.connect(str(path))
        raise CannotListen(f"can't listen on {path}: another process does")


def bind(
    server: grpc.aio.Server, listen: Listen, credentials: grpc.ServerCredentials | None
) -> Listen:
    """Listens; in plaintext without credentials. Returns the address with the port that was bound.
    Raises CannotListen.
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


def serve_metrics(metrics: Metrics, listen: Listen) -> None:
    """Offers metrics over HTTP. Raises CannotListen."""
    try:
        metrics.serve(listen.host, listen.port)
    except OSError as error:
        raise CannotListen(f"can't listen on {listen} for metrics: {error.strerror}") from None
