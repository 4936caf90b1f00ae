"""How many file descriptors this process may have, and the connections among them, by which it can
hang up on peers that a library would keep.

Looking at connections needs Linux; elsewhere there are none to be seen, and nothing is hung up on.
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
# Limits beyond this one are no limits.
_UNLIMITED = 1 << 20


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP connection: this process's port, and the other side as gRPC names it, such as
    `ipv4:192.0.2.1:50000` or `ipv6:%5B2001:db8::1%5D:50000`.
    """

    port: int
    peer: str


def raise_limit() -> int:
    """Raises the soft limit of descriptors to the hard one. Returns how many there may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS has a lower limit than it names
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit()


def limit() -> int:
    """How many descriptors this process may have now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else min(soft, _UNLIMITED)


def attainable() -> int:
    """How many descriptors a process may have once it has raised its limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if hard == resource.RLIM_INFINITY else min(hard, _UNLIMITED)


def connections(ports: Collection[int]) -> dict[Connection, int]:
    """The connections that others made to ports of this process, each with its descriptor."""
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
    """Ends a connection in both directions, so that its owner finds it closed by its peer. Returns
    False if the descriptor is another one's by now.
    """
    with _copy(descriptor) as copy:
        if copy is None or _connection(copy) != connection:
            return False
        with suppress(OSError):
            copy.shutdown(socket.SHUT_RDWR)
        return True


@contextmanager
def _copy(number: int) -> Iterator[socket.socket | None]:
    """Yields a copy of a descriptor if it is a socket's. The caller examines and closes the copy,
    as the system may give the number itself to another file at any moment.
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
    except OSError:  # it listens, or is gone
        return None
    return Connection(port, peer_name(host, peer_port))


def peer_name(host: str, port: int) -> str:
    """How gRPC names a peer. IPv4 is IPv4, however the socket writes it."""
    if ":" not in host:
        return f"ipv4:{host}:{port}"
    bare, percent, scope = host.partition("%")
    mapped = IPv6Address(bare).ipv4_mapped
    if mapped is not None:
        return f"ipv4:{mapped}:{port}"
    return f"ipv6:%5B{bare}{percent and '%25'}{scope}%5D:{port}"
