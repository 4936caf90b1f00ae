"""For apps of Starlette and FastAPI, around which there is a
`session_authority_client.asgi.SessionAuthorityMiddleware`.

`visit_of` and `require_session` are dependencies of FastAPI (`Annotated[Session,
Depends(require_session)]`), and are called with the request in Starlette. `require_step_up` makes
such a dependency. They serve WebSockets, too.
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
    """The visit of a request: who it is, if anybody, and signing in and out."""
    return asgi.visit_of(connection.scope)


async def require_session(connection: HTTPConnection) -> Session:
    """The session of the user. If no user is signed in, the client gets 401, or is sent to the
    sign-in. If that is unknown, the client gets 503.
    """
    return asgi.visit_of(connection.scope).require()


def require_step_up(
    *, max_age: timedelta | None = None, auth_methods: Collection[str] | None = None
) -> Callable[[HTTPConnection], Awaitable[Session]]:
    """Makes a dependency that is `require_session` with what `AsyncVisit.require` may ask of the
    sign-in: `Depends(require_step_up(max_age=timedelta(minutes=5)))`. Raises ValueError, TypeError.
    """
    wanted = step_up_of(max_age, auth_methods)  # what is wrong is told before the first request

    async def require(connection: HTTPConnection) -> Session:
        visit = asgi.visit_of(connection.scope)
        return visit.require(max_age=wanted.max_age, auth_methods=wanted.auth_methods or None)

    return require
