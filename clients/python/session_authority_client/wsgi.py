"""Middleware for apps that speak WSGI.

It opens a visit before the app, leaves it at `environ["session_authority.visit"]`, and writes the cookies as the headers go
out. What the app refuses (`Refused`) it answers. Flask and Django catch what views raise, and so have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from session_authority_client._sync.client import SessionAuthority
from session_authority_client._sync.visit import Visit, Visits
from session_authority_client.flow import VARIES, Flow, Headers, Refused

__all__ = ["SessionAuthorityMiddleware", "headers_of", "visit_of"]

Environ = dict[str, Any]
App = Callable[[Environ, Any], Iterable[bytes]]

_KEY = "session_authority.visit"


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


class SessionAuthorityMiddleware:
    """Knows who is signed in, request by request. `authority` is a client, or better a function that makes one.

    A server that forks must do so before there is a client: a function is called with the first request.
    """

    def __init__(
        self, app: App, authority: SessionAuthority | Callable[[], SessionAuthority], flow: Flow | None = None
    ) -> None:
        self._app = app
        self._visits = Visits(authority, flow or Flow())

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """A request."""
        method = environ["REQUEST_METHOD"]
        visit = self._visits.open(method, headers_of(environ), environ.get("REMOTE_ADDR", ""))
        environ[_KEY] = visit

        def starting(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            cookies = visit.close()
            headers = [*headers, ("Vary", ", ".join(VARIES))]
            if cookies:
                headers = [(name, value) for name, value in headers if name.lower() != "cache-control"]
                headers += [("Cache-Control", "no-store"), *(("Set-Cookie", cookie) for cookie in cookies)]
            return start_response(status, headers, *exc_info)

        try:
            return self._app(environ, starting)
        except Refused as refused:
            answer = refused.answer
            starting(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(answer.headers))
            return [] if method == "HEAD" else [answer.body]
