"""Makes grpc.aio wake the event loop only once for many of its events.

The poller thread of grpc.aio writes one byte for each event into a pair of sockets. Each time the
event loop wakes, grpc.aio reads only one byte, although it handles all waiting events. So every
further byte wakes the event loop in vain. With this module the bytes go through a pipe, which is
cheaper to write to, and all bytes are read together. An event is queued before its byte is written,
so no event is missed.

Like the acceptor, this module uses a private name of grpc.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from grpc._cython import cygrpc

_MAX_BYTES = 64 * 1024  # The capacity of a pipe in bytes.


class PipeEnd:
    """One end of a pipe, with the methods of a socket that grpc.aio uses."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Returns the file descriptor, or -1 after `close`."""
        return self._descriptor

    def setblocking(self, flag: bool) -> None:
        """Sets whether reads and writes wait for the other end."""
        os.set_blocking(self._descriptor, flag)

    def recv(self, _count: int) -> bytes:
        """Reads all bytes in the pipe, even if the caller asks for fewer bytes."""
        return os.read(self._descriptor, _MAX_BYTES)

    def close(self) -> None:
        """Closes this end of the pipe. A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Sockets:
    """Replaces the module `socket` for grpc.aio, with a pipe instead of each pair of sockets."""

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socketpair(self) -> tuple[PipeEnd, PipeEnd]:
        """Makes a pipe. Returns its end for reading and its end for writing."""
        reading, writing = os.pipe()
        return PipeEnd(reading), PipeEnd(writing)


def install() -> None:
    """Makes grpc.aio use a pipe in this process. Must be called before grpc.aio is first used."""
    if cygrpc.socket is socket:
        cygrpc.socket = _Sockets()


def uninstall() -> None:
    """Makes grpc.aio use its own pairs of sockets again."""
    cygrpc.socket = socket
