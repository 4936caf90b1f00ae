"""HTTP/2 by hand (RFC 9113), for input that no gRPC client would send."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from session_authority.runtime.addresses import Listen

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK = END_STREAM = 1
END_HEADERS = 4
MAX_CONCURRENT_STREAMS = 3
ENHANCE_YOUR_CALM = 11


@dataclass(frozen=True)
class Frame:
    """A frame of a connection."""

    kind: int
    flags: int = 0
    stream: int = 0
    payload: bytes = b""

    def to_bytes(self) -> bytes:
        """The frame's bytes on the wire."""
        length = struct.pack(">I", len(self.payload))[1:]
        return length + struct.pack(">BBI", self.kind, self.flags, self.stream) + self.payload

    def settings(self) -> dict[int, int]:
        """The values of a SETTINGS frame."""
        return dict(struct.iter_unpack(">HI", self.payload))

    def error_code(self) -> int:
        """The code with which a GOAWAY frame ends the connection."""
        assert self.kind == GOAWAY
        return int.from_bytes(self.payload[4:8])


class Line:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *frames: Frame) -> None:
        """Sends frames."""
        self._writer.writelines(frame.to_bytes() for frame in frames)

    def send_bytes(self, data: bytes) -> None:
        """Sends raw bytes."""
        self._writer.write(data)

    async def frames(self) -> AsyncIterator[Frame]:
        """The frames that arrive, until the other side closes the connection."""
        try:
            while True:
                head = await self._reader.readexactly(9)
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                yield Frame(
                    kind, flags, stream, await self._reader.readexactly(int.from_bytes(head[:3]))
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            return


@asynccontextmanager
async def line_to(address: Listen) -> AsyncIterator[Line]:
    """A connection on which nothing was sent yet."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


async def status_of(line: Line, path: str, request: bytes, *more: tuple[str, bytes]) -> int | None:
    """Makes the first call on this connection. Returns the status of the answer, or None without an
    answer.
    """
    line.send_bytes(PREFACE)
    line.send(
        Frame(SETTINGS),
        Frame(HEADERS, END_HEADERS, 1, headers(path, *more)),
        Frame(DATA, END_STREAM, 1, b"\0" + len(request).to_bytes(4) + request),
    )
    async for frame in line.frames():
        # gRPC's servers send the first status of a connection as a literal.
        found = (
            re.search(rb"grpc-status.(\d+)", frame.payload, re.DOTALL)
            if frame.kind == HEADERS
            else None
        )
        if found is not None:
            return int(found[1])
        if frame.kind in (RST_STREAM, GOAWAY):
            return None
    return None


def headers(path: str, *more: tuple[str, bytes]) -> bytes:
    """The header block of a gRPC call, in plain literals (RFC 7541 §6.2.2)."""
    fields: Sequence[tuple[str, bytes]] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", path.encode()),
        (":authority", b"localhost"),
        ("te", b"trailers"),
        ("content-type", b"application/grpc"),
        *more,
    ]
    return b"".join(b"\0" + _text(name.encode()) + _text(value) for name, value in fields)


def _text(value: bytes) -> bytes:
    length, head = len(value), bytearray()
    if length < 127:
        return bytes([length]) + value
    head.append(127)
    length -= 127
    while length >= 128:
        head.append(length % 128 + 128)
        length //= 128
    return bytes([*head, length]) + value
