"""Serves metrics over HTTP, in plaintext or over TLS, to every client or only to clients with a
token.

The cost that unknown clients can cause is limited: few connections at once, small requests, little
time for each part of a request, and few renderings a second. When too many renderings are
requested, the server sends the last rendering again while it is fresh. Requests of one kind can't
use up the renderings of another kind.
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

# The limit of connections at once. The oldest connection is closed to make room for a new one.
MAX_CONNECTIONS = 16
# Within this time, a client must send the next part of its request, or read the next part of the
# answer.
_TIMEOUT_SECONDS = 5.0
# A request of Prometheus has about half a kilobyte.
MAX_REQUEST_BYTES = 16 * 1024
# The limits of renderings for each of five budgets. A budget gains five renderings a second, up to
# a reserve of 20. One Prometheus scrapes every few seconds. A flood of requests can't cause more
# renderings than the budgets allow.
_RENDERINGS_PER_SECOND, _RENDERINGS_AT_ONCE = 5.0, 20.0
# A rendering of this age or less is sent again. Older renderings are not sent: if Prometheus got
# the same numbers again and again, no alert would fire.
_MAX_PAGE_AGE_SECONDS = 2.0
_OPEN_METRICS = "application/openmetrics-text"
MIN_TOKEN_CHARACTERS = 16
_MAX_TOKEN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Protection:
    """The protection of the metrics. `tls` returns the TLS context for a new connection. None means
    plaintext. `token_file` holds the bearer token that a scrape must send. With None, every client
    gets the metrics.
    """

    tls: Callable[[], ssl.SSLContext] | None = None
    token_file: Path | None = None


UNPROTECTED = Protection()


class TokenError(Exception):
    """The file of the token can't be used. The message does not contain the token."""


def read_token(path: Path) -> bytes:
    """Reads the token from a file, without surrounding white space. Raises TokenError."""
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
    """The TLS context of a certificate and its key. The files are read again when they change. If
    the changed files are broken, the old context stays in use.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Reads the files for the first time. Raises OSError, ssl.SSLError."""
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
    """The bytes that a client sends, up to a limit. At the limit, the stream ends as if the client
    had closed the connection.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._left = MAX_REQUEST_BYTES

    def readable(self) -> bool:
        """Returns True, because the stream is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads the available bytes, up to the limit."""
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

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own name
        """Logs nothing, because the log is JSON and has no lines for requests for metrics."""


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
        """Answers in a new thread. If there are too many connections, it closes the oldest ones
        first.
        """
        with self._lock:
            while len(self._open) >= MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = None
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answers one request. Over TLS, this thread also performs the handshake first."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_TIMEOUT_SECONDS)
        # The TLS socket gets a copy of the descriptor, because the server closes the connection
        # with the original.
        with self._tls().wrap_socket(request.dup(), server_side=True) as secure:
            super().finish_request(secure, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection, and forgets it."""
        with self._lock:
            self._open.pop(request, None)
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs nothing, because clients may close their connection at any time."""


def _hang_up(request: Any) -> None:
    with suppress(OSError):  # The thread of the connection is closing it at the same time.
        request.shutdown(socket.SHUT_RDWR)


class _Budget:
    """The number of renderings that requests of one kind may still cause."""

    def __init__(self) -> None:
        self._left = _RENDERINGS_AT_ONCE
        self._counted_at = time.monotonic()

    def take(self) -> bool:
        """Uses one rendering of the budget. Returns False if none is left."""
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
    """All metrics in one form. It holds the budget for new renderings in this form, and the last
    rendering.
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
        """Keeps a new rendering."""
        self.last, self.rendered_at = answer, time.monotonic()

    def fresh(self) -> _Answer | None:
        """Returns the last rendering, or None if there is none or it is too old to be sent."""
        is_old = time.monotonic() - self.rendered_at > _MAX_PAGE_AGE_SECONDS
        return None if is_old else self.last


class _App:
    """Checks the token, and limits how often metrics are rendered."""

    def __init__(self, registry: CollectorRegistry, token_file: Path | None) -> None:
        self._render = make_wsgi_app(registry)
        self._token_file = token_file
        self._lock = threading.Lock()
        # The key says if the client wants OpenMetrics, and if it wants gzip.
        self._pages = {form: _Page(*form) for form in product((False, True), repeat=2)}
        # The budget of all other requests, such as scrapes that name metrics. Their renderings are
        # not sent again.
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
        """Returns the page that the client wants, or None if the request is not for all metrics."""
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
    """Serves the metrics from a new thread. Returns the port. Raises OSError if the service can't
    listen on the address.
    """
    family, address = next(
        (found[0], found[4]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    server = _Server((str(address[0]), int(address[1])), family, protection.tls)
    server.set_app(_App(registry, protection.token_file))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port
