"""For apps of Starlette and FastAPI, around which there is a
`session_authority_client.asgi.SessionAuthorityMiddleware`.

Both functions are dependencies of FastAPI (`Annotated[Session, Depends(require_session)]`), and are
called with the request in Starlette. They serve WebSockets, too.
"""

from starlette.requests import HTTPConnection

from session_authority_client import asgi
from session_authority_client._async.visit import AsyncVisit
from session_authority_client.types import Session

__all__ = ["AsyncVisit", "require_session", "visit_of"]


async def visit_of(connection: HTTPConnection) -> AsyncVisit:
    """The visit of a request: who it is, if anybody, and signing in and out."""
    return asgi.visit_of(connection.scope)


async def require_session(connection: HTTPConnection) -> Session:
    """Who is signed in. Without anybody the client is answered 401, or sent to sign in; 503 if that
    is unknown.
    """
    return asgi.visit_of(connection.scope).require()
