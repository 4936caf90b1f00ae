"""Lets grpc.aio wake the event loop once for many of its events.

Its poller thread writes one byte for each event into a pair of sockets, and the loop reads one byte
whenever there is any, though it then handles all events that there are: for each further event it
comes round in vain. Here the bytes go through a pipe, which is cheaper to write to, and are read
together. An event is queued before its byte is written, so none is missed.

Like the acceptor, this uses a private name of grpc.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from grpc._cython import cygrpc

_MAX_BYTES = 64 * 1024  # all that a pipe holds


class PipeEnd:
    """One end of a pipe, with as much of a socket as grpc.aio uses."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The file descriptor, -1 once it is closed."""
        return self._descriptor

    def setblocking(self, flag: bool) -> None:
        """Makes reads and writes wait, or not."""
        os.set_blocking(self._descriptor, flag)

    def recv(self, _count: int) -> bytes:
        """All bytes that there are, however few are wanted."""
        return os.read(self._descriptor, _MAX_BYTES)

    def close(self) -> None:
        """Closes it; again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Sockets:
    """The module `socket`, with pipes for pairs of sockets."""

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socketpair(self) -> tuple[PipeEnd, PipeEnd]:
        """The end that reads and the end that writes."""
        reading, writing = os.pipe()
        return PipeEnd(reading), PipeEnd(writing)


def install() -> None:
    """Applies to all of grpc.aio in this process, from when it is used next: call this before."""
    if cygrpc.socket is socket:
        cygrpc.socket = _Sockets()


def uninstall() -> None:
    """Leaves grpc.aio its own pairs of sockets."""
    cygrpc.socket = socket
