"""The app behind the proxies: it knows nothing about sessions, and records each request that
reaches it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

# Names the request, so that a test can find it.
MARK = "x-mark"
OWN_COOKIE = "basket=3; Path=/"
_WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3.


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as the app received it: the spelling of names and the order of lines are kept."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of all lines with this name, in any spelling that an app may read as this
        name: CGI and WSGI distinguish neither case nor underscores.
        """
        return [value for key, value in self.headers if key.lower().replace("_", "-") == name]


class Upstream:
    """The requests that arrived so far."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._arrivals: list[Arrival] = []

    def record(self, arrival: Arrival) -> None:
        """Records a request."""
        with self._lock:
            self._arrivals.append(arrival)

    def arrivals(self, mark: str) -> list[Arrival]:
        """The requests with this mark."""
        with self._lock:
            return [arrival for arrival in self._arrivals if mark in arrival.values(MARK)]


def _handler(upstream: Upstream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = [(name, str(value)) for name, value in self.headers.items()]
            target = self.requestline.split(" ")[1]  # `path` has lost slashes.
            upstream.record(Arrival(self.command, target, headers, self.rfile.read(length)))
            if self.headers.get("Upgrade", "").lower() == "websocket":
                self._open_websocket()
            else:
                self._say_hello()

        def _say_hello(self) -> None:
            kind = self.headers.get("Content-Type", "")
            body = f"hello {self.headers.get('X-Session-User', '')}".encode()
            self.send_response(200)
            self.send_header("Content-Type", kind if "grpc" in kind else "text/plain")
            self.send_header("Set-Cookie", OWN_COOKIE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _open_websocket(self) -> None:
            key = self.headers["Sec-WebSocket-Key"] + _WEBSOCKET
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", accept)
            self.end_headers()
            self.wfile.write(b"\x81\x05hello")  # One frame of text.
            self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignores the error: a proxy that closes its connection is no fault of the app."""


@contextmanager
def upstream_server(port: int) -> Iterator[Upstream]:
    """The app on loopback."""
    upstream = Upstream()
    server = _Server(("127.0.0.1", port), _handler(upstream))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
