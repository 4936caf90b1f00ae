"""Middleware for apps that speak WSGI.

It opens a visit before the app, leaves it at `environ["session_authority.visit"]`, and writes the
cookies as the headers go out. It answers for the app what the app refuses (`Refused`). Flask and
Django catch what views raise, so they have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from session_authority_client._sync.client import SessionAuthority
from session_authority_client._sync.visit import Visit, Visits
from session_authority_client.flow import VARIES, Flow, Headers, Refused

__all__ = ["SessionAuthorityMiddleware", "headers_of", "target_of", "visit_of"]

_Environ = dict[str, Any]
_App = Callable[[_Environ, Any], Iterable[bytes]]

_KEY = "session_authority.visit"
_PATH_CHARACTERS = "/!$&'()*+,;=:@~"  # RFC 3986, section 3.3


def visit_of(environ: Mapping[str, Any]) -> Visit:
    """The visit of a request."""
    visit = environ.get(_KEY)
    if not isinstance(visit, Visit):
        raise RuntimeError("SessionAuthorityMiddleware is not around this app")
    return visit


def headers_of(environ: Mapping[str, Any]) -> Headers:
    """A request's headers."""
    return {
        key.removeprefix("HTTP_").replace("_", "-").lower(): (value,)
        for key, value in environ.items()
        if key.startswith("HTTP_")
    }


def target_of(environ: Mapping[str, Any]) -> str:
    """The path of a request with its query. A server has decoded the path (PEP 3333)."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    quoted = quote(path or "/", safe=_PATH_CHARACTERS, encoding="latin-1")
    query = environ.get("QUERY_STRING", "")
    return f"{quoted}?{query}" if query else quoted


class SessionAuthorityMiddleware:
    """Knows who is signed in, request by request. `authority` is a client, or better a function
    that makes one.

    A server that forks must do so before there is a client: a function is called with the first
    request.
    """

    def __init__(
        self,
        app: _App,
        authority: SessionAuthority | Callable[[], SessionAuthority],
        flow: Flow | None = None,
    ) -> None:
        self._app = app
        self._flow = flow or Flow()
        self._visits = Visits(authority, self._flow)

    def __call__(self, environ: _Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """A request."""
        exchange = _Exchange(environ["REQUEST_METHOD"], start_response)
        try:
            headers, peer = headers_of(environ), environ.get("REMOTE_ADDR", "")
            exchange.visit = environ[_KEY] = self._visits.open(
                exchange.method, headers, peer, target_of(environ)
            )
            scheme = environ.get("wsgi.url_scheme", "")
            exchange.accept_ch = self._flow.accept_ch(exchange.method, headers, peer, scheme)
            body = self._app(environ, exchange.start)
        except Refused as refused:
            return exchange.refuse(refused)
        if isinstance(body, list | tuple) or _is_file(body, environ):
            return body  # which servers look at, to send it in a better way
        return _Body(body, exchange)


class _Exchange:
    """A request whose response's headers may not be out yet."""

    def __init__(self, method: str, start_response: Callable[..., Any]) -> None:
        self.method = method
        self.visit: Visit | None = None
        self.accept_ch = ""
        self._start_response = start_response
        self._started = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """The app's `start_response`."""
        cookies = self.visit.close() if self.visit is not None else ()
        headers = self._for_caches([header for header in headers if not self._is_ours(*header)])
        headers.append(("Vary", ", ".join(VARIES)))
        if self.accept_ch:
            headers.append(("Accept-CH", self.accept_ch))
        headers += (("Set-Cookie", cookie) for cookie in cookies)
        self._started = True
        again = () if exc_info is None else (exc_info,)
        return self._start_response(status, headers, *again)

    def _for_caches(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        if self.visit is None:
            return headers
        kinds = (value for name, value in headers if name.lower() == "content-type")
        caching = self.visit.caching([name for name, _ in headers], "".join(kinds))
        return [*(header for header in headers if caching.keeps(header[0])), *caching.added]

    def _is_ours(self, name: str, value: str) -> bool:
        return name.lower() == "set-cookie" and self.visit is not None and self.visit.owns(value)

    def refuse(self, refused: Refused) -> list[bytes]:
        """Answers instead of the app. Where its headers are out already the server raises, and
        breaks off (PEP 3333).
        """
        answer = refused.answer
        again = (type(refused), refused, refused.__traceback__) if self._started else None
        self.start(
            f"{answer.status} {HTTPStatus(answer.status).phrase}", list(answer.headers), again
        )
        return [] if self.method == "HEAD" else [answer.body]


class _Body:
    """An app's response, as lazy as it was; what it refuses while nothing is out is answered."""

    def __init__(self, chunks: Iterable[bytes], exchange: _Exchange) -> None:
        self._close = getattr(chunks, "close", None)
        self._source = chunks
        self._chunks: Iterator[bytes] | None = None
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._chunks is None:
                self._chunks = iter(self._source)
            return next(self._chunks)
        except Refused as refused:
            self._chunks = iter(self._exchange.refuse(refused))
            return next(self._chunks)

    def close(self) -> None:
        if self._close is not None:
            self._close()


def _is_file(body: Iterable[bytes], environ: _Environ) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)
