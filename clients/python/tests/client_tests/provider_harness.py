"""A small stand-in for an OpenID provider, and apps of other sites that sign users in with it.

One process serves all of them on one port. Each is a site of its own, and the host name selects it.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from html import escape
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from session_authority_client import AsyncSessionAuthority, Session
from session_authority_client.asgi import SessionAuthorityMiddleware
from session_authority_client.flow import Flow, local_path
from session_authority_client.starlette import AsyncVisit, require_session, visit_of
from tests.support.ca import Pair
from tests.support.ports import free_port
from tests.support.waiting import wait_for

PROVIDER = "id.test"
PATIENCE_SECONDS = 40.0


class Provider:
    """A provider that signs in the user whom the app names as its `client_id`, after a click on the
    provider's own page.
    """

    def __init__(self) -> None:
        self.app = FastAPI()
        self._users: dict[str, str] = {}
        self.app.get("/authorize")(self._ask)
        self.app.post("/approve")(self._approve)

    async def _ask(self, client_id: str, redirect_uri: str, state: str) -> Response:
        fields = {"user": client_id, "redirect_uri": redirect_uri, "state": state}
        inputs = "".join(
            f'<input type="hidden" name="{name}" value="{escape(value)}">'
            for name, value in fields.items()
        )
        return HTMLResponse(
            f'<!doctype html><form method="post" action="/approve">{inputs}'
            "<button>Approve</button></form>"
        )

    async def _approve(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        given = {name: values[0] for name, values in form.items()}
        return self._sent_back(given)

    def _sent_back(self, given: Mapping[str, str]) -> Response:
        code = secrets.token_urlsafe()
        self._users[code] = given["user"]
        query = urlencode({"code": code, "state": given["state"]})
        return RedirectResponse(f"{given['redirect_uri']}?{query}", 303)

    def user_of(self, code: str) -> str:
        """Returns the user of a code. Each code works only once."""
        return self._users.pop(code)


def app_of(flow: Flow, authority: str, provider: Provider, asked: Counter[str]) -> FastAPI:
    """Makes an app with sign-in at the provider. The first label of its host is its user."""
    app = FastAPI()
    asgi: Any = app

    @app.get("/")
    async def home(session: Annotated[Session, Depends(require_session)]) -> Response:
        return HTMLResponse(f"<!doctype html>Hello {session.user_id}")

    @app.get("/login")
    async def login(request: Request, visit: Annotated[AsyncVisit, Depends(visit_of)]) -> Response:
        host, state = request.headers["host"], secrets.token_urlsafe()
        query = urlencode(
            {
                "client_id": host.partition(".")[0],
                "redirect_uri": f"https://{host}/callback",
                "state": state,
            }
        )
        port = host.partition(":")[2]
        answer = RedirectResponse(f"https://{PROVIDER}:{port}/authorize?{query}", 303)
        answer.set_cookie("oidc", f"{state}|{visit.next_path()}", secure=True, samesite="lax")
        return answer

    @app.get("/callback")
    async def callback(
        request: Request, code: str, state: str, visit: Annotated[AsyncVisit, Depends(visit_of)]
    ) -> Response:
        kept, _, wanted = request.cookies["oidc"].partition("|")
        assert secrets.compare_digest(kept, state)
        await visit.sign_in(provider.user_of(code), auth_methods=["pwd"])
        return RedirectResponse(local_path(wanted), 303)

    app.add_middleware(
        SessionAuthorityMiddleware,
        authority=lambda: AsyncSessionAuthority(authority, timeout=timedelta(seconds=20)),
        flow=flow,
    )

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        asked[scope.get("path", "")] += 1
        await asgi(scope, receive, send)

    return counted  # type: ignore[return-value]


@contextmanager
def served_sites(sites: Mapping[str, Any], pair: Pair) -> Iterator[int]:
    """Serves each site under its host name. Yields the port."""

    async def by_host(scope: Any, receive: Any, send: Any) -> None:
        host = dict(scope["headers"])[b"host"].decode().partition(":")[0]
        await sites[host](scope, receive, send)

    port = free_port()
    config = uvicorn.Config(
        by_host, port=port, lifespan="off", log_level="error",
        ssl_certfile=pair.certificate, ssl_keyfile=pair.key,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the sites to be served", PATIENCE_SECONDS)
        yield port
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
