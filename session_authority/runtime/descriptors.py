"""Finds how many file descriptors this process may have, and which file descriptors are
connections. Can also shut down a connection that a library would keep open.

Finding connections needs Linux. On systems other than Linux, this module finds no connections, and
shuts none down.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address

_OWN_DESCRIPTORS = "/proc/self/fd"
# The highest limit that this module returns, even if the system has a higher limit or no limit.
_UNLIMITED = 1 << 20


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP connection: the port of this process, and the peer as gRPC names it, such as
    `ipv4:192.0.2.1:50000` or `ipv6:%5B2001:db8::1%5D:50000`.
    """

    port: int
    peer: str


def raise_limit() -> int:
    """Raises the soft limit of file descriptors of this process to the hard limit. Returns the
    limit that applies afterward.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS may refuse the hard limit that it reports, because its real limit is lower.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit()


def limit() -> int:
    """Returns the number of file descriptors that this process may have now, at most 1,048,576."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else min(soft, _UNLIMITED)


def attainable() -> int:
    """Returns the number of file descriptors that a process may have after it has called
    `raise_limit`, at most 1,048,576.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if hard == resource.RLIM_INFINITY else min(hard, _UNLIMITED)


def connections(ports: Collection[int]) -> dict[Connection, int]:
    """Returns the connections that peers made to these ports of this process. The result maps each
    connection to its file descriptor.
    """
    found = {}
    try:
        numbers = sorted(map(int, os.listdir(_OWN_DESCRIPTORS)))
    except OSError:
        return {}
    for number in numbers:
        with _copy(number) as copy:
            connection = None if copy is None else _connection(copy)
        if connection is not None and connection.port in ports:
            found[connection] = number
    return found


def hang_up(connection: Connection, descriptor: int) -> bool:
    """Shuts down a connection in both directions, as if the peer had closed it. If the file
    descriptor no longer belongs to this connection, does nothing and returns False.
    """
    with _copy(descriptor) as copy:
        if copy is None or _connection(copy) != connection:
            return False
        with suppress(OSError):
            copy.shutdown(socket.SHUT_RDWR)
        return True


@contextmanager
def _copy(number: int) -> Iterator[socket.socket | None]:
    """Yields a copy of a file descriptor as a socket, or None if the file descriptor is not a
    socket. The calling code examines the copy and not the original. Another thread may close the
    original file descriptor at any moment, and the system may then use the same number for another
    file.
    """
    try:
        copied = os.dup(number)
    except OSError:
        yield None
        return
    try:
        copy = socket.socket(fileno=copied)
    except OSError:
        os.close(copied)
        yield None
        return
    with copy:
        yield copy


def _connection(copy: socket.socket) -> Connection | None:
    if copy.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        port, (host, peer_port) = copy.getsockname()[1], copy.getpeername()[:2]
    except OSError:  # The socket listens, or its peer has gone.
        return None
    return Connection(port, peer_name(host, peer_port))


def peer_name(host: str, port: int) -> str:
    """Returns the name that gRPC gives a peer. An IPv6 address that contains an IPv4 address, such
    as `::ffff:192.0.2.1`, counts as this IPv4 address.
    """
    if ":" not in host:
        return f"ipv4:{host}:{port}"
    bare, percent, scope = host.partition("%")
    mapped = IPv6Address(bare).ipv4_mapped
    if mapped is not None:
        return f"ipv4:{mapped}:{port}"
    return f"ipv6:%5B{bare}{percent and '%25'}{scope}%5D:{port}"
