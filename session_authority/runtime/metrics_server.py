"""Serves metrics over HTTP, in plaintext or over TLS, to every client or to clients with a token.

The cost that unknown clients can cause is bounded: few connections at once, small requests, little
time for each request, and few renderings a second. Beyond these limits the server sends the last
rendering again while it is fresh. Requests of one kind can't use up the renderings of another kind.
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

# Connections at once: the longest open makes room for another one.
MAX_CONNECTIONS = 16
# A client must send the next part of its question, or take the next of the answer, in this time.
_TIMEOUT_SECONDS = 5.0
# Prometheus sends half a kilobyte.
MAX_REQUEST_BYTES = 16 * 1024
# How often the metrics are rendered in one form. One Prometheus asks every few seconds. A flood of
# requests costs the service no more than this for each of five budgets. This many at once are
# allowed.
_RENDERINGS_PER_SECOND, _RENDERINGS_AT_ONCE = 5.0, 20.0
# An older page is not shown: its numbers would stand still, and no alert would fire.
_MAX_PAGE_AGE_SECONDS = 2.0
_OPEN_METRICS = "application/openmetrics-text"
MIN_TOKEN_CHARACTERS = 16
_MAX_TOKEN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Protection:
    """How the metrics are protected. `tls` gives the context for a connection that is made now;
    `token_file` holds what a scrape must bring as a bearer token.
    """

    tls: Callable[[], ssl.SSLContext] | None = None
    token_file: Path | None = None


UNPROTECTED = Protection()


class TokenError(Exception):
    """The file of the token can't be used. Holds no token."""


def read_token(path: Path) -> bytes:
    """The token of a file, without white space around it. Raises TokenError."""
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
    """The TLS of a certificate and its key, read again when the files change. A change that is
    broken changes nothing.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises OSError, ssl.SSLError."""
        self._files = certificate, key
        self._state = self._look()
        self._context = self._load()

    def __call__(self) -> ssl.SSLContext:
        """The context for a connection that is made now."""
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
    """The bytes that a client sends, up to a limit. At the limit the client seems to have closed
    the connection.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._left = MAX_REQUEST_BYTES

    def readable(self) -> bool:
        """Returns True: the bytes can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads the available bytes, up to the limit."""
        part: bytes = self._source.read1(min(len(buffer), self._left))
        buffer[: len(part)] = part
        self._left -= len(part)
        return len(part)

    def close(self) -> None:
        """Closes the stream that it reads from."""
        self._source.close()
        super().close()


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_SECONDS

    def setup(self) -> None:
        """Limits the bytes that are read."""
        super().setup()
        self.rfile = io.BufferedReader(_Limited(self.rfile))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own name
        """Logs nothing: the log is JSON, and has no line for requests for metrics."""


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
        """Answers in a thread of its own, and makes room for that."""
        with self._lock:
            while len(self._open) >= MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = None
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answers one request. Over TLS, this thread also makes the handshake first."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_TIMEOUT_SECONDS)
        # The TLS socket gets a copy: the server closes the connection by its own descriptor.
        with self._tls().wrap_socket(request.dup(), server_side=True) as secure:
            super().finish_request(secure, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        with self._lock:
            self._open.pop(request, None)
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs nothing about clients that close their connection."""


def _hang_up(request: Any) -> None:
    with suppress(OSError):  # its thread is closing it
        request.shutdown(socket.SHUT_RDWR)


class _Budget:
    """How many renderings are left to requests of one kind."""

    def __init__(self) -> None:
        self._left = _RENDERINGS_AT_ONCE
        self._counted_at = time.monotonic()

    def take(self) -> bool:
        """Takes one rendering, if one is left."""
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
    """All metrics in one form: how often they may be written anew, and the last that were."""

    def __init__(self, is_open_metrics: bool, is_gzipped: bool) -> None:
        # These headers have fixed values, so an oddly spelled request has no effect on others.
        self.headers = {
            "HTTP_ACCEPT": f"{_OPEN_METRICS}; version=1.0.0" if is_open_metrics else "text/plain",
            "HTTP_ACCEPT_ENCODING": "gzip" if is_gzipped else "identity",
        }
        self.budget = _Budget()
        self.rendered_at = 0.0
        self.last: _Answer | None = None

    def keep(self, answer: _Answer) -> None:
        """Keeps what was written just now."""
        self.last, self.rendered_at = answer, time.monotonic()

    def fresh(self) -> _Answer | None:
        """The last rendering. None if it is too old to be sent."""
        is_old = time.monotonic() - self.rendered_at > _MAX_PAGE_AGE_SECONDS
        return None if is_old else self.last


class _App:
    """Checks the token, and limits how often metrics are rendered."""

    def __init__(self, registry: CollectorRegistry, token_file: Path | None) -> None:
        self._render = make_wsgi_app(registry)
        self._token_file = token_file
        self._lock = threading.Lock()
        # By whether OpenMetrics and gzip are wanted.
        self._pages = {form: _Page(*form) for form in product((False, True), repeat=2)}
        # Of scrapes that name metrics, and of all else that is not shown again.
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
        """The page that is wanted; None if it is not the whole of the metrics."""
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
    """Answers from a thread of its own. Returns the port. Raises OSError if the address can't be
    listened on.
    """
    family, address = next(
        (found[0], found[4]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    server = _Server((str(address[0]), int(address[1])), family, protection.tls)
    server.set_app(_App(registry, protection.token_file))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port
