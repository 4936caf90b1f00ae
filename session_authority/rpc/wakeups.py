"""Lets grpc.aio wake the event loop once for many of its events.

The poller thread of grpc.aio writes one byte for each event into a pair of sockets. The event loop
reads one byte at a time, though each time it handles all events that there are. So it is woken in
vain for each further event. With this module the bytes go through a pipe, which is cheaper to write
to, and are read together. An event is queued before its byte is written, so none is missed.

Like the acceptor, this module uses a private name of grpc.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from grpc._cython import cygrpc

_MAX_BYTES = 64 * 1024  # the capacity of a pipe


class PipeEnd:
    """One end of a pipe, with the methods of a socket that grpc.aio uses."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The file descriptor. It is -1 once the pipe's end is closed."""
        return self._descriptor

    def setblocking(self, flag: bool) -> None:
        """Makes reads and writes block, or not."""
        os.set_blocking(self._descriptor, flag)

    def recv(self, _count: int) -> bytes:
        """Reads all bytes in the pipe, even if fewer are wanted."""
        return os.read(self._descriptor, _MAX_BYTES)

    def close(self) -> None:
        """Closes the end of the pipe. A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Sockets:
    """The module `socket`, but with a pipe in place of each pair of sockets."""

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socketpair(self) -> tuple[PipeEnd, PipeEnd]:
        """The end of a pipe for reading, and the end for writing."""
        reading, writing = os.pipe()
        return PipeEnd(reading), PipeEnd(writing)


def install() -> None:
    """Makes grpc.aio use a pipe in this process. Must be called before grpc.aio is first used."""
    if cygrpc.socket is socket:
        cygrpc.socket = _Sockets()


def uninstall() -> None:
    """Leaves grpc.aio its own pairs of sockets."""
    cygrpc.socket = socket
