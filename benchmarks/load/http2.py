"""The client side of gRPC over HTTP/2 (RFC 9113), on one non-blocking socket.

Owns frames, header blocks and windows of unary calls to one method, with as little work for each
call as possible in Python. Refuses everything that a benchmark does not need: streams, metadata,
retries.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections import deque
from dataclasses import dataclass, field

from hpack import Decoder

from benchmarks.load.answers import Tag, Unavailable, WrongAnswer

_FRAME = struct.Struct(">BHBBI")  # length (two parts), type, flags, stream
_MESSAGE = struct.Struct(">BI")  # gRPC's prefix: not compressed, length
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM = _ACK = 0x1
_END_HEADERS = 0x4
_PADDED_OR_WITH_PRIORITY = 0x28
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
# CANCELLED (gRPC's core cancels a call that waits for too long), RESOURCE_EXHAUSTED, UNAVAILABLE.
_GIVEN_UP = frozenset({b"1", b"8", b"14"})
_MAX_WINDOW = 2**31 - 1
_WINDOW_NEWS_BYTES = 2**20
_RECEIVE_BYTES = 2**18
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# A block whose fields are all indexed by one byte does not change the table, so the same block has
# the same meaning again.
_INDEXED_ONLY = re.compile(rb"[\x80-\xfe]+")


@dataclass(slots=True)
class _Call:
    tag: Tag
    payload: bytes
    sent_bytes: int = 0
    credit_bytes: int = 0
    received: bytearray = field(default_factory=bytearray)


class GrpcConnection:
    """A connection that calls one method. Each answer comes with the `tag` of its call.

    Every method raises WrongAnswer if a call fails, and OSError if the connection fails.
    """

    def __init__(self, sock: socket.socket, path: str, authority: str) -> None:
        self.socket = sock
        self._calls: dict[int, _Call] = {}
        self._next_stream = 1
        self._in, self._out = bytearray(), bytearray(_PREFACE)
        self._out += _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, _MAX_WINDOW))
        self._out += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _MAX_WINDOW - 65_535))
        self._unreported_bytes = 0
        # How many bytes may be sent: on the connection, on a new stream, in a frame.
        self._window, self._initial_window, self._frame_bytes = 65_535, 65_535, 16_384
        self._blocked: deque[int] = deque()
        self._decoder = Decoder()
        self._statuses: dict[bytes, bytes | None] = {}
        secure = isinstance(sock, ssl.SSLSocket)
        self._first_block, self._later_block = _request_blocks(path, authority, secure=secure)

    def fileno(self) -> int:
        """Returns the socket's file descriptor, for a selector."""
        return self.socket.fileno()

    @property
    def in_flight(self) -> int:
        """The number of calls that are under way."""
        return len(self._calls)

    @property
    def wants_to_write(self) -> bool:
        """True if data waits for room in the socket."""
        return bool(self._out)

    def close(self) -> None:
        """Closes the connection."""
        self.socket.close()

    def start(self, tag: Tag, message: bytes) -> None:
        """Prepares a call. `flush` sends it."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        call = self._calls[stream] = _Call(tag, _MESSAGE.pack(0, len(message)) + message)
        self._out += _frame(_HEADERS, _END_HEADERS, stream, self._first_block)
        self._first_block = self._later_block
        self._send_data(stream, call)
        if call.sent_bytes < len(call.payload):
            self._blocked.append(stream)

    def _send_data(self, stream: int, call: _Call) -> None:
        """Queues as much of a call's message as the flow-control windows allow."""
        size = len(call.payload)
        while call.sent_bytes < size:
            allowed = self._initial_window + call.credit_bytes - call.sent_bytes
            count = min(size - call.sent_bytes, allowed, self._window, self._frame_bytes)
            if count <= 0:
                return
            part = call.payload[call.sent_bytes : call.sent_bytes + count]
            call.sent_bytes += count
            self._window -= count
            self._out += _frame(_DATA, _END_STREAM * (call.sent_bytes == size), stream, part)

    def flush(self) -> None:
        """Sends as much data as the socket accepts."""
        while self._out:
            try:
                sent = self.socket.send(self._out)
            except (BlockingIOError, ssl.SSLWantWriteError):
                return
            del self._out[:sent]

    def receive(self) -> list[tuple[Tag, bytes]]:
        """Returns the tag and the message of each call whose answer has arrived."""
        try:
            chunk = self.socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return []
        if not chunk:
            raise Unavailable("the server hung up")
        self._in += chunk
        while isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            self._in += self.socket.recv(_RECEIVE_BYTES)
        return self._read_frames()

    def _read_frames(self) -> list[tuple[Tag, bytes]]:
        answered: list[tuple[Tag, bytes]] = []
        data, at, end = self._in, 0, len(self._in)
        while end - at >= _FRAME.size:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            start, at_next = at + _FRAME.size, at + _FRAME.size + (high << 16 | low)
            if at_next > end:
                break
            body, at = bytes(data[start:at_next]), at_next
            if kind == _DATA:
                self._take_data(stream, body)
            elif kind == _HEADERS:
                status = self._status_in(flags, body)
                if flags & _END_STREAM:
                    answered.append(self._end(stream, status))
            else:
                self._obey(kind, flags, stream, body)
        del data[:at]
        return answered

    def _take_data(self, stream: int, body: bytes) -> None:
        self._calls[stream].received += body
        self._unreported_bytes += len(body)
        if self._unreported_bytes > _WINDOW_NEWS_BYTES:
            news = struct.pack(">I", self._unreported_bytes)
            self._out += _frame(_WINDOW_UPDATE, 0, 0, news)
            self._unreported_bytes = 0

    def _status_in(self, flags: int, block: bytes) -> bytes | None:
        """Returns the gRPC status in a header block, or None if the block has none."""
        if block in self._statuses:
            return self._statuses[block]
        if not flags & _END_HEADERS or flags & _PADDED_OR_WITH_PRIORITY:
            raise WrongAnswer("headers in a form that no gRPC server sends")
        fields = dict(self._decoder.decode(block, raw=True))
        status = fields.get(b"grpc-status")
        if _INDEXED_ONLY.fullmatch(block):
            self._statuses[block] = status
        else:  # the table has changed
            self._statuses.clear()
        if status not in (None, b"0"):
            text = bytes(fields.get(b"grpc-message", b"")).decode()
            kind = Unavailable if status in _GIVEN_UP else WrongAnswer
            raise kind(f"gRPC status {bytes(status or b'').decode()}: {text}")
        return status

    def _end(self, stream: int, status: bytes | None) -> tuple[Tag, bytes]:
        call = self._calls.pop(stream)
        if status != b"0" or len(call.received) < _MESSAGE.size:
            raise WrongAnswer("a call ended without a status and a message")
        return call.tag, bytes(call.received[_MESSAGE.size :])

    def _obey(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        """Handles all frames except those with headers or data."""
        if kind == _PING and not flags & _ACK:
            self._out += _frame(_PING, _ACK, 0, body)
        elif kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", body):
                if name == _INITIAL_WINDOW_SIZE:
                    self._initial_window = value
                elif name == _MAX_FRAME_SIZE:
                    self._frame_bytes = value
            self._out += _frame(_SETTINGS, _ACK, 0, b"")
            self._unblock()
        elif kind == _WINDOW_UPDATE:
            (credit_bytes,) = struct.unpack(">I", body)
            if stream == 0:
                self._window += credit_bytes
            elif stream in self._calls:
                self._calls[stream].credit_bytes += credit_bytes
            self._unblock()
        elif kind == _GOAWAY or (kind == _RST_STREAM and stream in self._calls):
            code = int.from_bytes(body[4:8] if kind == _GOAWAY else body)
            text = body[8:].decode(errors="replace") if kind == _GOAWAY else ""
            what = "the connection" if kind == _GOAWAY else "a call"
            raise Unavailable(f"the server ended {what}: HTTP/2 error {code} {text}".rstrip())

    def _unblock(self) -> None:
        for _ in range(len(self._blocked)):
            stream = self._blocked.popleft()
            call = self._calls.get(stream)
            if call is not None:
                self._send_data(stream, call)
                if call.sent_bytes < len(call.payload):
                    self._blocked.append(stream)


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    size = len(body)
    return _FRAME.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + body


def _request_blocks(path: str, authority: str, *, secure: bool) -> tuple[bytes, bytes]:
    """Returns the header block of a connection's first call, and the block of its later calls.

    The first block fills the server's table (RFC 7541). The later block points into that table, as
    gRPC's own clients do.
    """
    fields = (
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "benchmark"),
    )
    # POST and the scheme are in the static table, whose last index is 61.
    fixed = bytes([0x83, 0x87 if secure else 0x86])
    literals = b"".join(b"\x40" + _text(name) + _text(value) for name, value in fields)
    indexed = bytes(0x80 | 61 + len(fields) - number for number in range(len(fields)))
    return fixed + literals, fixed + indexed


def _text(value: str) -> bytes:
    assert len(value) < 127  # a longer text needs several bytes for its length
    return bytes([len(value)]) + value.encode()
