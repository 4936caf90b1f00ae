"""Two small apps for real servers: `asgi` for uvicorn, `wsgi` for gunicorn. The environment
variable AUTHORITY is the address of the service, and TIMEOUT is the client's timeout in seconds.
The query of a sign-in is the user's name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from session_authority_client import AsyncSessionAuthority, SessionAuthority
from session_authority_client import asgi as for_asgi
from session_authority_client import wsgi as for_wsgi

_AUTHORITY = os.environ.get("AUTHORITY", "")
_TIMEOUT = timedelta(seconds=float(os.environ.get("TIMEOUT", "1")))


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    visit = for_asgi.visit_of(scope)
    if scope["path"] == "/sign-in":
        user = scope["query_string"].decode() or "ada"
        told = {"token": (await visit.sign_in(user)).access_token, "device": visit.device_id}
    else:
        told = {"user": "" if scope["path"] == "/open" else visit.require().user_id}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


def _wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    visit = for_wsgi.visit_of(environ)
    if environ["PATH_INFO"] == "/sign-in":
        user = environ["QUERY_STRING"] or "ada"
        told = {"token": visit.sign_in(user).access_token, "device": visit.device_id}
    else:
        told = {"user": "" if environ["PATH_INFO"] == "/open" else visit.require().user_id}
    body = json.dumps(told).encode()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [body]


asgi = for_asgi.SessionAuthorityMiddleware(
    _asgi, lambda: AsyncSessionAuthority(_AUTHORITY, timeout=_TIMEOUT)
)
wsgi = for_wsgi.SessionAuthorityMiddleware(
    _wsgi, lambda: SessionAuthority(_AUTHORITY, timeout=_TIMEOUT)
)
