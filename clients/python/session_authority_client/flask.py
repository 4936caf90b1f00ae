"""Provides middleware for Flask. `install` wraps a Flask app in the middleware."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial, wraps
from typing import ParamSpec, TypeVar, overload

from flask import Flask, Response, request

from session_authority_client import wsgi
from session_authority_client._shared.step_up import StepUp, step_up_of
from session_authority_client._sync.client import SessionAuthority
from session_authority_client._sync.visit import Visit
from session_authority_client.flow import Flow, Refused

__all__ = ["Visit", "install", "require_session", "visit"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def install(
    app: Flask,
    authority: SessionAuthority | Callable[[], SessionAuthority],
    flow: Flow | None = None,
) -> None:
    """Wraps an app in the middleware. `authority` is a client, or better a function that makes a
    client: the middleware calls this function at the first request. A server that forks must fork
    before the client is made. The server has forked when the first request comes.
    """
    wrapped = wsgi.SessionAuthorityMiddleware(app.wsgi_app, authority, flow)
    app.wsgi_app = wrapped  # type: ignore[method-assign]
    app.register_error_handler(Refused, _answer)


def visit() -> Visit:
    """Returns the visit of the current request. The visit has the user's session, if there is one,
    and signs users in and out.
    """
    return wsgi.visit_of(request.environ)


@overload
def require_session(view: Callable[_P, _R], /) -> Callable[_P, _R]: ...
@overload
def require_session(
    *, max_age: timedelta | None = None, auth_methods: Collection[str] | None = None
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...
def require_session(
    view: Callable[_P, _R] | None = None,
    /,
    *,
    max_age: timedelta | None = None,
    auth_methods: Collection[str] | None = None,
) -> Callable[_P, _R] | Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Limits a view to signed-in users. A client that is not signed in gets 401, or is redirected
    to the sign-in page. A client whose sign-in is too old or used none of the methods also gets
    401, or is redirected. If the service gives no answer or refuses the call, the client gets 503.

    The arguments are those of `Visit.require`: `@require_session(max_age=timedelta(minutes=5))`
    requires a recent sign-in.

    Raises ValueError and TypeError for wrong arguments.
    """
    # wrong arguments raise an exception here, and not at the first request
    wanted = step_up_of(max_age, auth_methods)
    return partial(_guarded, wanted) if view is None else _guarded(wanted, view)


def _guarded(wanted: StepUp, view: Callable[_P, _R]) -> Callable[_P, _R]:
    @wraps(view)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        visit().require(max_age=wanted.max_age, auth_methods=wanted.auth_methods or None)
        return view(*args, **kwargs)

    return guarded


def _answer(refused: Refused) -> Response:
    return Response(refused.answer.body, refused.answer.status, list(refused.answer.headers))
