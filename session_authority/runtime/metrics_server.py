"""Serves metrics over HTTP, in plaintext or over TLS, to every client or only to clients with a
token.

The load that unknown clients can cause is limited. There are limits for the number of open
connections, the size of a request, the time for each part of a request, and the renderings of the
metrics in a second. When clients request more renderings than the limit allows, the server sends
the last rendering again, if this rendering is not too old. Each kind of request has its own limit
of renderings, so one kind of request can't use up the limit of another kind.
"""

from __future__ import annotations

import hmac
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

# The limit of open connections. When a new connection would exceed the limit, the oldest connection
# is closed.
MAX_CONNECTIONS = 16
# The time limit for a client to send the next part of its request, or to read the next part of the
# response.
_TIMEOUT_SECONDS = 5.0
# The limit of the size of a request. A request of Prometheus has about half a kilobyte.
MAX_REQUEST_BYTES = 16 * 1024
# The limits of renderings of the metrics. There are five budgets: one for each of the four forms of
# the whole page, and one for all other requests. Each budget gains five renderings a second, and
# holds at most 20. Five renderings a second are enough, because a Prometheus server scrapes only
# once in several seconds.
_RENDERINGS_PER_SECOND, _RENDERINGS_AT_ONCE = 5.0, 20.0
# The largest age of a rendering that is sent again. Older renderings are not sent again: if
# Prometheus got the same numbers again and again, no alert would fire.
_MAX_PAGE_AGE_SECONDS = 2.0
_OPEN_METRICS = "application/openmetrics-text"
MIN_TOKEN_CHARACTERS = 16
_MAX_TOKEN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Protection:
    """Says how the metrics are protected. `tls` returns the TLS context for a new connection. If
    `tls` is None, the metrics are served in plaintext. `token_file` contains the bearer token that
    a client must send. If `token_file` is None, every client gets the metrics.
    """

    tls: Callable[[], ssl.SSLContext] | None = None
    token_file: Path | None = None


UNPROTECTED = Protection()


class TokenError(Exception):
    """The file with the bearer token can't be used. The message does not contain the token."""


def read_token(path: Path) -> bytes:
    """Reads the bearer token from a file, without surrounding white space. Raises TokenError if the
    file can't be read, or if its content is not a token of the required form.
    """
    try:
        with path.open("rb") as file:
            token = file.read(_MAX_TOKEN_BYTES + 1).strip()
    except OSError as error:
        raise TokenError(f"{path}: can't be read: {error.strerror}") from None
    if not MIN_TOKEN_CHARACTERS <= len(token) <= _MAX_TOKEN_BYTES or not all(
        b"!"[0] <= byte <= b"~"[0] for byte in token
    ):
        raise TokenError(
            f"{path}: must hold one token of {MIN_TOKEN_CHARACTERS} to {_MAX_TOKEN_BYTES}"
            " characters of ASCII without white space"
        )
    return token


class TlsContext:
    """Provides a TLS context with a certificate and its key. The files are read again when they
    change. If the changed files are broken, the old context stays in use.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Reads the files for the first time. Raises OSError or ssl.SSLError if the files can't be
        used.
        """
        self._files = certificate, key
        self._state = self._look()
        self._context = self._load()

    def __call__(self) -> ssl.SSLContext:
        """Returns the TLS context for a new connection."""
        with suppress(OSError, ssl.SSLError):
            state = self._look()
            if state != self._state:
                self._context, self._state = self._load(), state
        return self._context

    def _look(self) -> list[tuple[int, int]]:
        return [(path.stat().st_mtime_ns, path.stat().st_ino) for path in self._files]

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._files)
        return context


class _Limited(io.RawIOBase):
    """A stream of the bytes that a client sends, up to MAX_REQUEST_BYTES. At MAX_REQUEST_BYTES, the
    stream ends as if the client had closed the connection.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._left = MAX_REQUEST_BYTES

    def readable(self) -> bool:
        """Returns True, because the stream is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads the available bytes into `buffer`, up to the limit of the stream."""
        part: bytes = self._source.read1(min(len(buffer), self._left))
        buffer[: len(part)] = part
        self._left -= len(part)
        return len(part)

    def close(self) -> None:
        """Closes this stream and the stream that it reads from."""
        self._source.close()
        super().close()


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_SECONDS

    def setup(self) -> None:
        """Limits the number of bytes that are read from the client."""
        super().setup()
        self.rfile = io.BufferedReader(_Limited(self.rfile))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Logs nothing, because requests for metrics get no lines in the service's log."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        family: socket.AddressFamily,
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self.address_family = family
        self._tls = tls
        self._open: dict[Any, None] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a connection in a new thread. If MAX_CONNECTIONS connections are open, closes the
        oldest connection first.
        """
        with self._lock:
            while len(self._open) >= MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = None
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answers one request. Over TLS, first performs the handshake, which also runs in the
        thread of the connection.
        """
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_TIMEOUT_SECONDS)
        # The TLS socket gets a copy of the file descriptor, because the server closes the
        # connection with the original file descriptor.
        with self._tls().wrap_socket(request.dup(), server_side=True) as secure:
            super().finish_request(secure, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection, and removes it from the open connections."""
        with self._lock:
            self._open.pop(request, None)
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs no error of a connection, because clients may close their connections at any
        time.
        """


def _hang_up(request: Any) -> None:
    with suppress(OSError):  # Another thread may have closed the connection.
        request.shutdown(socket.SHUT_RDWR)


class _Budget:
    """Limits the renderings that requests of one kind cause."""

    def __init__(self) -> None:
        self._left = _RENDERINGS_AT_ONCE
        self._counted_at = time.monotonic()

    def take(self) -> bool:
        """Takes one rendering from the budget. Returns False if the budget has no rendering
        left.
        """
        now = time.monotonic()
        gained = (now - self._counted_at) * _RENDERINGS_PER_SECOND
        self._left = min(self._left + gained, _RENDERINGS_AT_ONCE)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


_Answer = tuple[str, Any, list[bytes]]


class _Page:
    """The page with all metrics in one form: in the plain text format or in OpenMetrics, with gzip
    or without. Holds the last rendering of this form, and the budget for new renderings.
    """

    def __init__(self, is_open_metrics: bool, is_gzipped: bool) -> None:
        # The page is rendered with fixed headers, so a request with unusual headers does not change
        # the page that other clients get.
        self.headers = {
            "HTTP_ACCEPT": f"{_OPEN_METRICS}; version=1.0.0" if is_open_metrics else "text/plain",
            "HTTP_ACCEPT_ENCODING": "gzip" if is_gzipped else "identity",
        }
        self.budget = _Budget()
        self.rendered_at = 0.0
        self.last: _Answer | None = None

    def keep(self, answer: _Answer) -> None:
        """Stores a new rendering, which replaces the last rendering."""
        self.last, self.rendered_at = answer, time.monotonic()

    def fresh(self) -> _Answer | None:
        """Returns the last rendering. Returns None if there is no rendering, or if the last
        rendering is too old to be sent again.
        """
        is_old = time.monotonic() - self.rendered_at > _MAX_PAGE_AGE_SECONDS
        return None if is_old else self.last


class _App:
    """The WSGI app that serves the metrics. Checks the bearer token of a request, and limits how
    often the metrics are rendered.
    """

    def __init__(self, registry: CollectorRegistry, token_file: Path | None) -> None:
        self._render = make_wsgi_app(registry)
        self._token_file = token_file
        self._lock = threading.Lock()
        # Each key of this dict has two parts: if the client accepts OpenMetrics, and if the client
        # accepts gzip.
        self._pages = {form: _Page(*form) for form in product((False, True), repeat=2)}
        # The budget of all requests that get no page of `_pages`, such as scrapes that name
        # metrics. A rendering for a request of this budget is not sent again.
        self._others = _Budget()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not self._may_see(environ.get("HTTP_AUTHORIZATION", "")):
            return _refuse(start_response, "401 Unauthorized", ("WWW-Authenticate", "Bearer"))
        with self._lock:
            page = self._page_for(environ)
            if page is None:
                answer = self._rendered(environ) if self._others.take() else None
            elif page.budget.take():
                answer = self._rendered(environ | page.headers)
                page.keep(answer)
            else:
                answer = page.fresh()
        if answer is None:
            return _refuse(start_response, "503 Service Unavailable", ("Retry-After", "1"))
        status, headers, body = answer
        start_response(status, headers)
        return body

    def _page_for(self, environ: dict[str, Any]) -> _Page | None:
        """Returns the page that the client wants, or None if the request does not ask for all
        metrics.
        """
        is_whole = environ["REQUEST_METHOD"] == "GET" and not environ.get("QUERY_STRING")
        if not is_whole or environ.get("PATH_INFO") == "/favicon.ico":
            return None
        form = (
            _OPEN_METRICS in environ.get("HTTP_ACCEPT", ""),
            "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""),
        )
        return self._pages[form]

    def _rendered(self, environ: dict[str, Any]) -> _Answer:
        begun: list[Any] = []
        body = self._render(environ, lambda status, headers: begun.extend((status, headers)))
        return begun[0], begun[1], list(body)

    def _may_see(self, header: str) -> bool:
        if self._token_file is None:
            return True
        scheme, _, token = header.partition(" ")
        try:
            wanted = read_token(self._token_file)
        except TokenError:
            return False
        given = token.strip().encode("utf-8", "replace")
        return scheme.lower() == "bearer" and hmac.compare_digest(given, wanted)


def _refuse(start_response: Any, status: str, header: tuple[str, str]) -> list[bytes]:
    start_response(status, [header, ("Content-Type", "text/plain; charset=utf-8")])
    return [f"{status}\n".encode()]


def serve_metrics(
    registry: CollectorRegistry, host: str, port: int, protection: Protection = UNPROTECTED
) -> int:
    """Starts a thread that serves the metrics. Returns the port on which the server listens: if
    `port` is 0, the system chooses a port. Raises OSError if the server can't listen on the
    address.
    """
    family, address = next(
        (found[0], found[4]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    server = _Server((str(address[0]), int(address[1])), family, protection.tls)
    server.set_app(_App(registry, protection.token_file))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port
