"""Offers metrics over HTTP, to few connections at once: Prometheus needs one."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

# Connections at once: the longest open makes room for another one.
MAX_CONNECTIONS = 16
# A client must send the next part of its question, or take the next of the answer, in this time.
_TIMEOUT_SECONDS = 5.0


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own name
        """Logs nothing: the log is JSON, and who looks at metrics is not in it."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily) -> None:
        self.address_family = family
        self._open: dict[Any, None] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers in a thread of its own, and makes room for that."""
        with self._lock:
            while len(self._open) >= MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        with self._lock:
            self._open.pop(request, None)
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that hang up."""


def _hang_up(request: Any) -> None:
    with suppress(OSError):  # its thread is closing it
        request.shutdown(socket.SHUT_RDWR)


def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> None:
    """Answers from a thread of its own. Raises OSError if the address can't be listened on."""
    family, address = next(
        (found[0], found[4]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    server = _Server((str(address[0]), int(address[1])), family)
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, daemon=True).start()
