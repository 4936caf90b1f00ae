"""Dependencies for Starlette and FastAPI apps that are wrapped by
`session_authority_client.asgi.SessionAuthorityMiddleware`.

`visit_of` and `require_session` are dependencies for FastAPI (`Annotated[Session,
Depends(require_session)]`). In Starlette, call them with the request. `require_step_up` makes such
a dependency. They work for WebSockets, too.
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
    """The visit of a request. It knows the user's session, if any, and signs users in and out."""
    return asgi.visit_of(connection.scope)


async def require_session(connection: HTTPConnection) -> Session:
    """The session of the user. If no user is signed in, the client gets 401, or is sent to the
    sign-in page. If the service gives no answer, the client gets 503.
    """
    return asgi.visit_of(connection.scope).require()


def require_step_up(
    *, max_age: timedelta | None = None, auth_methods: Collection[str] | None = None
) -> Callable[[HTTPConnection], Awaitable[Session]]:
    """Makes a dependency like `require_session` that also requires a recent or a strong sign-in:
    `Depends(require_step_up(max_age=timedelta(minutes=5)))`. The arguments are those of
    `AsyncVisit.require`.

    Raises ValueError, TypeError.
    """
    wanted = step_up_of(max_age, auth_methods)  # what is wrong is told before the first request

    async def require(connection: HTTPConnection) -> Session:
        visit = asgi.visit_of(connection.scope)
        return visit.require(max_age=wanted.max_age, auth_methods=wanted.auth_methods or None)

    return require
