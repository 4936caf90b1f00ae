"""The client side of HTTP/1.1 for the floors that are web applications: one request at a time."""

from __future__ import annotations

import re
import socket

from benchmarks.load.answers import Tag, WrongAnswer

_RECEIVE_BYTES = 2**16
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class HttpConnection:
    """A connection that posts JSON to one path. Raises WrongAnswer, OSError."""

    def __init__(self, sock: socket.socket, path: str, authority: str) -> None:
        self.socket = sock
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n"
            "Content-Length: "
        ).encode()
        self._tag: Tag = (0, 0.0)
        self._in, self._out = b"", b""
        self.in_flight = 0

    def fileno(self) -> int:
        """Returns the socket's file descriptor, for a selector."""
        return self.socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """True if data waits for room in the socket."""
        return bool(self._out)

    def close(self) -> None:
        """Closes the connection."""
        self.socket.close()

    def start(self, tag: Tag, message: bytes) -> None:
        """Prepares a request. `flush` sends it."""
        assert not self.in_flight
        self._tag, self.in_flight = tag, 1
        self._out = b"%s%d\r\n\r\n%s" % (self._head, len(message), message)

    def flush(self) -> None:
        """Sends as much data as the socket accepts."""
        if self._out:
            try:
                self._out = self._out[self.socket.send(self._out) :]
            except BlockingIOError:
                return

    def receive(self) -> list[tuple[Tag, bytes]]:
        """Returns the request's tag and the body of its answer once the answer is complete."""
        chunk = self.socket.recv(_RECEIVE_BYTES)
        if not chunk:
            raise WrongAnswer("the server hung up")
        self._in += chunk
        head, end, body = self._in.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return []
        if not head.startswith(b"HTTP/1.1 200 "):
            raise WrongAnswer(head.partition(b"\r\n")[0].decode())
        self._in, self.in_flight = b"", 0
        return [(self._tag, body)]
