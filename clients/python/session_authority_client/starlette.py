"""Provides dependencies for FastAPI apps, and functions for Starlette apps. The app must be wrapped
in `session_authority_client.asgi.SessionAuthorityMiddleware`.

`visit_of` and `require_session` are dependencies for FastAPI (`Annotated[Session,
Depends(require_session)]`). In Starlette, call `visit_of` and `require_session` with the request.
`require_step_up` makes a dependency that requires a recent or a strong sign-in. All functions of
this module work for WebSockets, too.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

from starlette.requests import HTTPConnection

from session_authority_client import asgi
from session_authority_client._async.visit import AsyncVisit
from session_authority_client._shared.step_up import step_up_of
from session_authority_client.types import Session

__all__ = ["AsyncVisit", "require_session", "require_step_up", "visit_of"]


async def visit_of(connection: HTTPConnection) -> AsyncVisit:
    """Returns the visit of a request. The visit has the user's session, if there is one, and signs
    users in and out.
    """
    return asgi.visit_of(connection.scope)


async def require_session(connection: HTTPConnection) -> Session:
    """Returns the session of the signed-in user. If no user is signed in, the client gets 401, or
    is redirected to the sign-in page. If the service gives no answer, the client gets 503.
    """
    return asgi.visit_of(connection.scope).require()


def require_step_up(
    *, max_age: timedelta | None = None, auth_methods: Collection[str] | None = None
) -> Callable[[HTTPConnection], Awaitable[Session]]:
    """Makes a dependency like `require_session` that also requires a recent or a strong sign-in. An
    example is `Depends(require_step_up(max_age=timedelta(minutes=5)))`. The arguments are those of
    `AsyncVisit.require`.

    Raises ValueError and TypeError for wrong arguments.
    """
    # wrong arguments raise an exception here, and not at the first request
    wanted = step_up_of(max_age, auth_methods)

    async def require(connection: HTTPConnection) -> Session:
        visit = asgi.visit_of(connection.scope)
        return visit.require(max_age=wanted.max_age, auth_methods=wanted.auth_methods or None)

    return require
