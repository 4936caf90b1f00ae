"""Makes grpc.aio wake the event loop only once for several events of grpc.aio.

Without this module, the poller thread of grpc.aio writes one byte for each event into a socket
pair. Each byte can wake the event loop. When the event loop wakes, grpc.aio handles all waiting
events, but reads only one byte. So each further byte wakes the event loop again although no event
waits.

With this module, the bytes go through a pipe. Writing to a pipe costs less than writing to a
socket. When the event loop wakes, all bytes in the pipe are read together. No event is missed,
because the poller thread puts an event into the queue before it writes the byte of this event.

This module uses a private name of grpc, as the module `acceptor` does.
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
        """Makes reads and writes wait for the other end of the pipe if `flag` is True. If `flag` is
        False, reads and writes never wait.
        """
        os.set_blocking(self._descriptor, flag)

    def recv(self, _count: int) -> bytes:
        """Reads all bytes in the pipe. Ignores the number of bytes that grpc.aio asks for."""
        return os.read(self._descriptor, _MAX_BYTES)

    def close(self) -> None:
        """Closes this end of the pipe. A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Sockets:
    """Replaces the module `socket` in grpc.aio. `socketpair` makes a pipe instead of a pair of
    sockets.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socketpair(self) -> tuple[PipeEnd, PipeEnd]:
        """Makes a pipe. Returns the pipe's end for reading and the pipe's end for writing."""
        reading, writing = os.pipe()
        return PipeEnd(reading), PipeEnd(writing)


def install() -> None:
    """Makes grpc.aio use a pipe in this process. Must be called before grpc.aio is first used."""
    if cygrpc.socket is socket:
        cygrpc.socket = _Sockets()


def uninstall() -> None:
    """Makes grpc.aio use its own pairs of sockets again."""
    cygrpc.socket = socket
