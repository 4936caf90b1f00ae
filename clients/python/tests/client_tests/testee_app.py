"""The app of the Python testee, once for ASGI and once for WSGI.

A request is handed to the middleware in this process. The reply is the response that the middleware
sends.

The routes are described in `clients/vectors/TESTEE.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Request, Response

from client_tests.harness import OnThreads
from session_authority_client import AsyncSessionAuthority, asgi, wsgi
from session_authority_client.cookies import Cookies
from session_authority_client.flow import Flow

_FLOW = Flow(sign_in_url="/sign-in", cookies=Cookies(insecure=True))
_STREAM = "text/event-stream"
_OPEN = b"data: open\n\n"
_PLAIN = (b"content-type", b"text/plain; charset=utf-8")

Command = Mapping[str, Any]
Note = Callable[[Mapping[str, Any]], None]
App = Callable[[Command, Note], Awaitable[dict[str, Any]]]


def _user_of(body: bytes) -> str:
    """The user that a form names."""
    return parse_qs(body.decode()).get("user", [""])[0]


# --- ASGI -----------------------------------------------------------------------------------------


async def _body_of(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _asgi_app(scope: Any, receive: Any, send: Any) -> None:
    async def answer(status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [_PLAIN, *headers]})
        await send({"type": "http.response.body", "body": body})

    visit, route = asgi.visit_of(scope), (scope["method"], scope["path"])
    if route == ("GET", "/public"):
        await answer(200, b"public")
    elif route in {("GET", "/private"), ("POST", "/private")}:
        await answer(200, visit.require().user_id.encode())
    elif route == ("POST", "/sign-in"):
        await visit.sign_in(_user_of(await _body_of(receive)))
        await answer(303, b"", (b"location", b"/"))
    elif route == ("POST", "/sign-out"):
        await visit.sign_out()
        await answer(303, b"", (b"location", b"/"))
    elif route == ("GET", "/stream"):
        visit.require()
        headers = [(b"content-type", _STREAM.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": _OPEN, "more_body": True})
        await asyncio.Event().wait()  # the middleware ends the stream
    else:
        await answer(404)


def _asgi(client: AsyncSessionAuthority) -> App:
    app: Any = asgi.SessionAuthorityMiddleware(_asgi_app, client, _FLOW)

    async def request(command: Command, note: Note) -> dict[str, Any]:
        given = [(name.lower(), value) for name, value in command.get("headers") or ()]
        if "host" not in dict(given):
            given.append(("host", "localhost"))
        path, _, query = command["path"].partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": command["method"],
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given],
            "client": ("127.0.0.1", 50000),
            "server": ("localhost", 80),
            "state": {},
        }
        sent = {"type": "http.request", "body": (command.get("body") or "").encode()}
        requested = [sent]
        answer: dict[str, Any] = {}
        body = bytearray()

        async def receive() -> Any:
            if requested:
                return requested.pop()
            return await asyncio.Event().wait()  # the browser stays connected

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
                answer["headers"] = [
                    [name.decode("latin-1"), value.decode("latin-1")]
                    for name, value in message["headers"]
                ]
                return
            if message.get("body") == _OPEN:
                note({"status": answer["status"]})
            body.extend(message.get("body", b""))

        await app(scope, receive, send)
        return {**answer, "body": body.decode()}

    return request


# --- WSGI -----------------------------------------------------------------------------------------


def _wsgi_answer(request: Request) -> Response:
    visit, route = wsgi.visit_of(request.environ), (request.method, request.path)
    if route == ("GET", "/public"):
        return Response("public")
    if route in {("GET", "/private"), ("POST", "/private")}:
        return Response(visit.require().user_id)
    if route == ("POST", "/sign-in"):
        visit.sign_in(_user_of(request.get_data()))
        return Response(status=303, headers={"Location": "/"})
    if route == ("POST", "/sign-out"):
        visit.sign_out()
        return Response(status=303, headers={"Location": "/"})
    if route == ("GET", "/stream"):
        visit.require()

        def parts() -> Iterator[bytes]:
            yield _OPEN
            visit.ended()  # a thread that waits for anything else can't be ended

        return Response(parts(), content_type=_STREAM)
    return Response(status=404)


def _wsgi(client: OnThreads) -> App:
    app: Any = wsgi.SessionAuthorityMiddleware(
        Request.application(_wsgi_answer), client.client, _FLOW
    )

    async def request(command: Command, note: Note) -> dict[str, Any]:
        def made() -> dict[str, Any]:
            builder = EnvironBuilder(
                command["path"],
                "http://localhost/",
                method=command["method"],
                headers=list(map(tuple, command.get("headers") or ())),
                data=(command.get("body") or "").encode(),
                environ_base={"REMOTE_ADDR": "127.0.0.1"},
            )
            parts, status, headers = run_wsgi_app(app, builder.get_environ())
            body = bytearray()
            for part in parts:
                if part == _OPEN:
                    note({"status": int(status.split()[0])})
                body.extend(part)
            return {
                "status": int(status.split()[0]),
                "headers": [list(pair) for pair in headers],
                "body": body.decode(),
            }

        return await asyncio.to_thread(made)

    return request


APPS: Mapping[str, Callable[[Any], App]] = {"asyncio": _asgi, "threads": _wsgi}
