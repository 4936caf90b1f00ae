"""Apps with connections that stay open, in several frameworks, on real servers; and clients with
such connections.

`/chat` reads its WebSocket, and `/push` never reads it. `/kept` and `/public` must stay open:
`/kept` asks for that, and `/public` never reads the session. `/events` is an event stream, and
`/busy` is one that sends without a pause. `/kept-events` and `/public-events` are event streams
that must stay open for the same reasons as `/kept` and `/public`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import falcon.asgi
import hypercorn.asyncio
import litestar
import litestar.response
import quart
import uvicorn
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import StreamingHttpResponse
from django.test import override_settings
from django.urls import path as url_path
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, TextMessage
from wsproto.events import Request as Handshake

from client_tests.middleware_harness import django_app
from session_authority_client import asgi
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from tests.support.ports import free_port

STREAM = "text/event-stream"
HELLO = b"data: hello\n\n"


class Notes:
    """What an app noticed when its connections ended."""

    def __init__(self) -> None:
        self.left: list[Any] = []
        self.told = 0  # calls of `on_ended` callbacks
        self.opened = 0


def look(scope: Any, notes: Notes) -> None:
    """Reads the session, or does not, according to the path."""

    def tell() -> None:
        notes.told += 1

    path = scope["path"]
    if not path.startswith("/public"):
        visit = asgi.visit_of(scope)
        visit.require()
        if path.startswith("/kept"):
            visit.keep_open()
        visit.on_ended(tell)


async def stream(scope: Any, notes: Notes) -> AsyncIterator[bytes]:
    """An event stream: one event, and then silence. On `/busy` it sends events without end."""
    notes.opened += 1
    try:
        yield HELLO
        while scope["path"] == "/busy":
            await asyncio.sleep(0)
            yield HELLO
        await asyncio.Event().wait()
    finally:
        notes.left.append("closed")


# --- without a framework --------------------------------------------------------------------------


def plain(notes: Notes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
        elif scope["type"] == "websocket":
            await _socket(scope, receive, send)
        else:
            look(scope, notes)
            headers = [(b"content-type", STREAM.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for part in stream(scope, notes):
                await send({"type": "http.response.body", "body": part, "more_body": True})

    async def _socket(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        look(scope, notes)
        await send({"type": "websocket.accept"})
        notes.opened += 1
        if scope["path"] == "/push":
            await asyncio.Event().wait()
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        notes.left.append((message["code"], message.get("reason")))
        await send({"type": "websocket.send", "text": "too late"})

    return app


# --- Starlette and FastAPI ------------------------------------------------------------------------


def _routes(notes: Notes) -> Mapping[str, Any]:
    async def socket(connection: WebSocket) -> None:
        look(connection.scope, notes)
        await connection.accept()
        notes.opened += 1
        try:
            while True:
                await connection.send_text(await connection.receive_text())
        except WebSocketDisconnect as error:
            notes.left.append((error.code, error.reason))

    async def push(connection: WebSocket) -> None:
        look(connection.scope, notes)
        await connection.accept()
        notes.opened += 1
        await asyncio.Event().wait()

    async def events(request: Request) -> StreamingResponse:
        look(request.scope, notes)
        return StreamingResponse(stream(request.scope, notes), media_type=STREAM)

    return {"socket": socket, "push": push, "events": events}


SOCKETS = ("/chat", "/kept", "/public")
STREAMS = ("/events", "/busy", "/kept-events", "/public-events")


def starlette(notes: Notes) -> Any:
    made = _routes(notes)
    return Starlette(
        routes=[
            *(WebSocketRoute(path, made["socket"]) for path in SOCKETS),
            WebSocketRoute("/push", made["push"]),
            *(Route(path, made["events"]) for path in STREAMS),
        ]
    )


def fastapi(notes: Notes) -> Any:
    made, app = _routes(notes), FastAPI()
    for path in SOCKETS:
        app.add_api_websocket_route(path, made["socket"])
    app.add_api_websocket_route("/push", made["push"])
    for path in STREAMS:
        app.add_route(path, made["events"])
    return app


# --- Litestar and Quart ---------------------------------------------------------------------------


def of_litestar(notes: Notes) -> Any:
    @litestar.websocket([*SOCKETS, "/push"])
    async def socket(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        look(socket.scope, notes)
        await socket.accept()
        notes.opened += 1
        if socket.scope["path"] == "/push":
            await asyncio.Event().wait()
        try:
            while True:
                await socket.send_text(await socket.receive_text())
        except litestar.exceptions.WebSocketDisconnect as error:
            notes.left.append((error.code, error.detail))

    @litestar.get(list(STREAMS))
    async def events(request: litestar.Request[Any, Any, Any]) -> litestar.response.Stream:
        look(request.scope, notes)
        return litestar.response.Stream(stream(request.scope, notes), media_type=STREAM)

    return litestar.Litestar([socket, events])


def of_quart(notes: Notes) -> Any:
    app = quart.Quart(__name__, static_folder=None)

    async def socket(**_: Any) -> None:
        look(quart.websocket.scope, notes)
        await quart.websocket.accept()
        notes.opened += 1
        if quart.websocket.path == "/push":
            await asyncio.Event().wait()
        try:
            while True:
                await quart.websocket.send(await quart.websocket.receive())
        except asyncio.CancelledError:
            notes.left.append("cancelled")
            raise

    async def events(**_: Any) -> Any:
        scope = quart.request.scope
        look(scope, notes)
        answer = await quart.make_response(stream(scope, notes), {"Content-Type": STREAM})
        answer.timeout = None  # type: ignore[union-attr]
        return answer

    for path in (*SOCKETS, "/push"):
        app.add_websocket(path, path, socket)
    for path in STREAMS:
        app.add_url_rule(path, path, events)
    return app


# --- Falcon, and Django, which has no WebSockets --------------------------------------------------


def of_falcon(notes: Notes) -> Any:
    class Resource:
        async def on_get(self, request: Any, response: Any) -> None:
            look(request.scope, notes)
            response.content_type = STREAM
            response.stream = stream(request.scope, notes)

        async def on_websocket(self, request: Any, socket: Any) -> None:
            look(request.scope, notes)
            await socket.accept()
            notes.opened += 1
            if request.path == "/push":
                await asyncio.Event().wait()
            try:
                while True:
                    await socket.send_text(await socket.receive_text())
            except falcon.WebSocketDisconnected as error:
                notes.left.append((error.code, "session_ended"))

    app: Any = falcon.asgi.App()
    for path in (*SOCKETS, *STREAMS, "/push"):
        app.add_route(path, Resource())
    return app


class _ClosesBodies(ASGIHandler):  # type: ignore[misc]
    """Django's handler, which here also closes bodies of requests that the server cancels."""

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        with ExitStack() as self.bodies:
            await super().handle(scope, receive, send)

    async def read_body(self, receive: Any) -> Any:
        return self.bodies.enter_context(await super().read_body(receive))


def of_django(notes: Notes) -> Any:
    async def events(request: Any) -> StreamingHttpResponse:
        look(request.scope, notes)
        return StreamingHttpResponse(stream(request.scope, notes), content_type=STREAM)

    django_app(FakeAuthority())  # configures the settings of the Django project
    settings.MIDDLEWARE = []
    urls = tuple(url_path(path.removeprefix("/"), events) for path in STREAMS)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            with override_settings(ROOT_URLCONF=urls):
                await _ClosesBodies()(scope, receive, send)

    return app


APPS: Mapping[str, Callable[[Notes], Any]] = {
    "plain": plain,
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": of_litestar,
    "quart": of_quart,
    "falcon": of_falcon,
}
STREAM_APPS = {**APPS, "django": of_django}

# --- servers --------------------------------------------------------------------------------------


@asynccontextmanager
async def on_uvicorn(app: Any) -> AsyncIterator[str]:
    """Runs the app on uvicorn and yields its address."""
    config = uvicorn.Config(app, "127.0.0.1", free_port(), ws="wsproto", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)
    try:
        yield f"127.0.0.1:{config.port}"
    finally:
        server.should_exit = server.force_exit = True
        await serving


@asynccontextmanager
async def on_hypercorn(app: Any) -> AsyncIterator[str]:
    """Runs the app on hypercorn and yields its address."""
    config, stop = hypercorn.Config(), asyncio.Event()
    config.bind = [f"127.0.0.1:{free_port()}"]
    config.graceful_timeout = 0
    config.shutdown_timeout = 1
    serve: Any = hypercorn.asyncio.serve
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    host, _, port = config.bind[0].partition(":")
    async with asyncio.timeout(20):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                break
            await asyncio.sleep(0.005)
    try:
        yield config.bind[0]
    finally:
        stop.set()
        await serving


SERVERS: Mapping[str, Any] = {"uvicorn": on_uvicorn, "hypercorn": on_hypercorn}


def behind(app: Any, client: Any, flow: Flow | None = None) -> Any:
    """Wraps an app in the middleware."""
    return asgi.SessionAuthorityMiddleware(app, client, flow)


# --- a WebSocket client ---------------------------------------------------------------------------


class Socket:
    """An open WebSocket, on the client's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._protocol = WSConnection(ConnectionType.CLIENT)

    async def next(self) -> Any:
        """Returns the next event, or None at the end of the connection."""
        while True:
            for event in self._protocol.events():
                if isinstance(event, CloseConnection):
                    with suppress(Exception):  # this fails if both sides have closed
                        self._writer.write(self._protocol.send(event.response()))
                return event
            found = await self._reader.read(65536)
            if not found:
                return None
            self._protocol.receive_data(found)

    async def echo(self, text: str) -> str:
        """Sends a text and returns the app's reply."""
        self._writer.write(self._protocol.send(TextMessage(data=text)))
        event = await self.next()
        assert isinstance(event, TextMessage), event
        return str(event.data)

    async def closed(self) -> tuple[int, str | None]:
        """Waits for the end of the connection. Returns its code and reason."""
        while not isinstance(event := await self.next(), CloseConnection):
            assert event is not None, "the connection broke"
        return event.code, event.reason

    async def open(self, address: str, path: str, headers: Mapping[str, str]) -> None:
        """Makes the WebSocket handshake."""
        more = [(name.encode(), value.encode()) for name, value in headers.items()]
        handshake = Handshake(host=address, target=path, extra_headers=more)
        self._writer.write(self._protocol.send(handshake))
        event = await self.next()
        assert isinstance(event, AcceptConnection), getattr(event, "status_code", event)
        assert not isinstance(event, RejectConnection)


@asynccontextmanager
async def socket_at(address: str, path: str, headers: Mapping[str, str]) -> AsyncIterator[Socket]:
    """Opens a WebSocket like a client that is not a browser."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        socket = Socket(reader, writer)
        await socket.open(address, path, headers)
        yield socket
    finally:
        writer.close()
