"""Provides middleware for WSGI apps. For Flask and Django, use the modules `flask` and `django` of
this package.

The middleware opens a visit before it calls the app, and puts the visit in
`environ["session_authority.visit"]`. The middleware adds the visit's cookies to the headers of the
app's response. If `Refused` is raised in the app, the middleware sends the response that this
exception contains. If a framework caught `Refused` and answered with a server error, the middleware
replaces the server error by the response of `Refused`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from session_authority_client._shared.refusals import find, is_chosen, is_only
from session_authority_client._sync.client import SessionAuthority
from session_authority_client.adapter import (
    MAX_BODY_BYTES,
    DevicesRequest,
    Response,
    Visit,
    Visits,
    answer_devices,
    public_response,
)
from session_authority_client.devices import DevicesPage
from session_authority_client.flow import VARIES, Flow, Headers, Refused

__all__ = ["SessionAuthorityMiddleware", "headers_of", "request_of", "target_of", "visit_of"]

_Environ = dict[str, Any]
_App = Callable[[_Environ, Any], Iterable[bytes]]

_KEY = "session_authority.visit"
_PATH_CHARACTERS = "/!$&'()*+,;=:@~"  # RFC 3986, section 3.3


def visit_of(environ: Mapping[str, Any]) -> Visit:
    """Returns the visit of a request."""
    visit = environ.get(_KEY)
    if not isinstance(visit, Visit):
        raise RuntimeError("SessionAuthorityMiddleware is not around this app")
    return visit


def headers_of(environ: Mapping[str, Any]) -> Headers:
    """Returns the headers of a request. Each lower-case name has a sequence of values. The result
    has no `Content-Type` and no `Content-Length`.
    """
    return {
        key.removeprefix("HTTP_").replace("_", "-").lower(): (value,)
        for key, value in environ.items()
        if key.startswith("HTTP_")
    }


def request_of(
    environ: Mapping[str, Any], target: str, read: Callable[[int], bytes]
) -> DevicesRequest:
    """Reads a request to the page of devices. If the body is longer than `MAX_BODY_BYTES`, reads
    only the first `MAX_BODY_BYTES` + 1 bytes of the body.
    """
    headers = {**headers_of(environ), "content-type": (environ.get("CONTENT_TYPE", ""),)}
    length = environ.get("CONTENT_LENGTH") or ""
    # If the request has no `Content-Length`, the end of the body is known only if the server sets
    # `wsgi.input_terminated`.
    left = MAX_BODY_BYTES + 1 if environ.get("wsgi.input_terminated") else 0
    told = min(int(length), MAX_BODY_BYTES + 1) if length.isdecimal() else None
    left = left if told is None else told
    body = read(left) if left else b""
    is_whole = told is None or len(body) == told
    return DevicesRequest(environ["REQUEST_METHOD"], target, headers, body, is_whole)


def target_of(environ: Mapping[str, Any]) -> str:
    """Returns the path and the query of a request. This function quotes the path again, because
    WSGI servers decode the path (PEP 3333).
    """
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    quoted = quote(path or "/", safe=_PATH_CHARACTERS, encoding="latin-1")
    query = environ.get("QUERY_STRING", "")
    return f"{quoted}?{query}" if query else quoted


class SessionAuthorityMiddleware:
    """Wraps a WSGI app, and finds out for each request which user is signed in.

    `authority` is a client, or better a function that makes a client: the middleware calls this
    function at the first request. A server that forks must fork before the client is made. The
    server has forked when the first request comes.
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
        """Handles a request of the WSGI server."""
        method, headers = environ["REQUEST_METHOD"], headers_of(environ)
        peer = environ.get("REMOTE_ADDR", "")
        exchange = _Exchange(environ, start_response)
        target = target_of(environ)
        mounted = self._flow.devices_at(target)
        if mounted is not None:
            public = public_response(mounted, method, target, headers)
            if public is not None:
                return _sent(public, method, start_response)
        app = self._app if mounted is None else partial(_serve_devices, mounted, target)
        try:
            visit = self._visits.open(method, headers, peer, target)
        except Refused as refused:
            return exchange.refuse(refused)
        exchange.visit = environ[_KEY] = visit
        scheme = environ.get("wsgi.url_scheme", "")
        exchange.accept_ch = self._flow.accept_ch(method, headers, peer, scheme)
        try:
            body = app(environ, exchange.start)
        except Exception as error:
            visit.leave()
            answer = exchange.refuse_for(error)
            if answer is None or not is_only(error, Refused):
                raise
            return answer
        if not (isinstance(body, list | tuple) or _is_file(body, environ)):
            return _Body(body, exchange)
        visit.leave()
        answer = exchange.instead()
        if answer is None:
            return body  # not wrapped: servers send some types, such as files, faster
        _close(body)
        return answer


def _serve_devices(
    page: DevicesPage, target: str, environ: _Environ, start_response: Callable[..., Any]
) -> list[bytes]:
    made = answer_devices(
        page, visit_of(environ), request_of(environ, target, environ["wsgi.input"].read)
    )
    return _sent(made, environ["REQUEST_METHOD"], start_response)


def _sent(made: Response, method: str, start_response: Callable[..., Any]) -> list[bytes]:
    start_response(_status_line(made), list(made.headers))
    return [] if method == "HEAD" else [made.body]


def _status_line(made: Response) -> str:
    return f"{made.status} {HTTPStatus(made.status).phrase}"


class _Exchange:
    """Handles the response to one request: the app's response, or the refusal that replaces it."""

    def __init__(self, environ: _Environ, start_response: Callable[..., Any]) -> None:
        self._environ = environ
        self.visit: Visit | None = None
        self.accept_ch = ""
        self._start_response = start_response
        self._started = False
        self._answer: list[bytes] | None = None
        self.has_ended = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Starts the response of the app, or sends a refusal in place of the app's response. The
        app gets this method as its `start_response`.
        """
        if self._answer is not None:
            return _write_nothing
        refused = None if self.visit is None else self.visit.take_refusal()
        if refused is not None:
            # Some middleware catches an exception, and calls this method in its `except` block. The
            # caught exception is in `exc_info`, or `sys.exception()` returns it.
            error = exc_info[1] if exc_info else sys.exception()
            fault = error is not None and find(error, Refused) is None
            code = int(status.partition(" ")[0])
            if not is_chosen(code, refused.answer.status, refused, fault=fault):
                self.refuse(refused)
                return _write_nothing
        return self._start(status, headers, exc_info)

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any) -> Any:
        cookies: Iterable[str] = ()
        headers = [header for header in headers if not self._is_ours(*header)]
        if self.visit is not None:
            self.visit.close()
            lines = (value for name, value in headers if name.lower() == "set-cookie")
            cookies = self.visit.added_to(lines)
        headers = self._for_caches(headers)
        headers.append(("Vary", ", ".join(VARIES)))
        if self.accept_ch:
            headers.append(("Accept-CH", self.accept_ch))
        headers += (("Set-Cookie", cookie) for cookie in cookies)
        self._started = True
        kinds = (value for name, value in headers if name.lower() == "content-type")
        self.end_with_session("".join(kinds).lower())
        again = () if exc_info is None else (exc_info,)
        return self._start_response(status, headers, *again)

    def _for_caches(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        if self.visit is None:
            return headers
        kinds = (value for name, value in headers if name.lower() == "content-type")
        caching = self.visit.caching([name for name, _ in headers], "".join(kinds))
        return [*(header for header in headers if caching.keeps(header[0])), *caching.added]

    def _is_ours(self, name: str, value: str) -> bool:
        if name.lower() != "set-cookie" or self.visit is None:
            return False
        # If the app is wrapped in this middleware twice, `environ` has the visit of the inner
        # middleware.
        return self.visit.owns(value, self._environ.get(_KEY))

    def end_with_session(self, content_type: str) -> None:
        """If the response is an event stream, makes the stream end after the session has ended,
        before the next part of the stream is sent. Does nothing if the response is no event stream.
        """
        if self.visit is not None and content_type.startswith("text/event-stream"):
            self.visit.hang_up_at_end(self._end)

    def _end(self) -> None:
        self.has_ended = True

    def refuse(self, refused: Refused) -> list[bytes]:
        """Sends a refusal in place of the app's response, and returns the body of the refusal. If
        the headers of the app's response are already sent, the server raises `refused` again and
        aborts the response (PEP 3333).
        """
        if self._answer is None:
            answer = refused.answer
            again = (type(refused), refused, refused.__traceback__) if self._started else None
            self._start(_status_line(answer), list(answer.headers), again)
            self._answer = [] if self._environ["REQUEST_METHOD"] == "HEAD" else [answer.body]
        return self._answer

    def refuse_for(self, error: Exception) -> list[bytes] | None:
        """If an exception of the app is a refusal or contains one, sends this refusal and returns
        its body. Returns None if the exception contains no refusal.
        """
        refused = find(error, Refused)
        return None if refused is None else self.refuse(refused)

    def instead(self) -> list[bytes] | None:
        """Returns the body of a refusal that replaces the app's body, or None if there is no
        refusal. The app may have raised the refusal after it called `start_response`. Call this
        method before any part of the app's body is sent.
        """
        refused = None if self.visit is None else self.visit.take_refusal()
        return self._answer if refused is None else self.refuse(refused)


def _write_nothing(_: bytes) -> None:
    """Ignores the data. If a refusal replaced the app's response, `start_response` returns this
    function as `write`.
    """


class _Body:
    """Yields the parts of an app's body. If the app raises a refusal before the first part is sent,
    yields the body of the refusal in place of the app's body.
    """

    def __init__(self, chunks: Iterable[bytes], exchange: _Exchange) -> None:
        self._source = chunks
        self._chunks: Iterator[bytes] | None = None
        self._exchange = exchange
        self._began = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = None if self._exchange.has_ended else self._next()
        if self._exchange.has_ended:
            raise StopIteration
        if not self._began:
            answer = self._exchange.instead()
            if answer is not None:
                self._chunks = iter(answer)
                chunk = next(self._chunks, None)
            self._began = bool(chunk) or answer is not None
        if chunk is None:
            raise StopIteration
        return chunk

    def _next(self) -> bytes | None:
        try:
            if self._chunks is None:
                self._chunks = iter(self._source)
            return next(self._chunks, None)
        except Exception as error:
            answer = self._exchange.refuse_for(error)
            if answer is None or not is_only(error, Refused):
                raise
            self._chunks, self._began = iter(answer), True
            return next(self._chunks, None)

    def close(self) -> None:
        try:
            _close(self._source)
        finally:
            if self._exchange.visit is not None:
                self._exchange.visit.leave()


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _is_file(body: Iterable[bytes], environ: _Environ) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)
