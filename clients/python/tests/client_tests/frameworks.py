"""Apps in eight frameworks. Their pages need a session, and a recent sign-in."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import bottle
import falcon
import falcon.asgi
import flask
import litestar
import litestar.response
import quart
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

import session_authority_client.flask as for_flask
from session_authority_client import AsyncSessionAuthority, SessionAuthority, asgi, wsgi
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority

with warnings.catch_warnings(action="ignore"):  # it imports modules that are deprecated
    from pyramid.config import Configurator
    from pyramid.response import Response as PyramidResponse

PAGES = ("/me", "/late")
ASYNC_PAGES = (*PAGES, "/group")
RECENT = timedelta(minutes=5)
PATIENCE = timedelta(seconds=20)
Apps = Mapping[str, Callable[[FakeAuthority, Flow], Any]]


def _client(authority: FakeAuthority) -> Callable[[], SessionAuthority]:
    """Returns a function that makes clients with a long timeout, because a machine may be busy."""
    return partial(authority.client, timeout=PATIENCE)


def _async_client(authority: FakeAuthority) -> Callable[[], AsyncSessionAuthority]:
    return partial(authority.async_client, timeout=PATIENCE)


def behind_asgi(app: Any, authority: FakeAuthority, flow: Flow) -> Any:
    return asgi.SessionAuthorityMiddleware(app, _async_client(authority), flow)


def behind_wsgi(app: Any, authority: FakeAuthority, flow: Flow) -> Any:
    return wsgi.SessionAuthorityMiddleware(app, _client(authority), flow)


# --- shared by all apps ---------------------------------------------------------------------------


def user_of(scope: Any) -> str:
    return asgi.visit_of(scope).require(max_age=RECENT).user_id


async def user_in_a_group(scope: Any) -> str:
    async def look() -> str:
        return user_of(scope)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(look())
    return task.result()


async def parts(scope: Any) -> AsyncIterator[bytes]:
    if scope["path"] == "/half":
        yield b"one "
    yield user_of(scope).encode()


def parts_of(environ: Any) -> Iterator[bytes]:
    if environ["PATH_INFO"] == "/half":
        yield b"one "
    yield wsgi.visit_of(environ).require(max_age=RECENT).user_id.encode()


# --- Starlette and FastAPI ------------------------------------------------------------------------


async def _me(request: StarletteRequest) -> Response:
    return PlainTextResponse(user_of(request.scope))


async def _late(request: StarletteRequest) -> Response:
    return StreamingResponse(parts(request.scope))


async def _group(request: StarletteRequest) -> Response:
    return PlainTextResponse(await user_in_a_group(request.scope))


_ROUTES = [Route("/me", _me), Route("/late", _late), Route("/half", _late), Route("/group", _group)]


def _oops(_: Any, error: Exception) -> Response:
    return JSONResponse({"error": "oops"}, 500)


def starlette_app(authority: FakeAuthority, flow: Flow) -> Any:
    return behind_asgi(Starlette(routes=_ROUTES), authority, flow)


def starlette_catching_app(authority: FakeAuthority, flow: Flow) -> Any:
    app = Starlette(routes=_ROUTES, exception_handlers={Exception: _oops})
    return behind_asgi(app, authority, flow)


def starlette_catching_middleware_app(authority: FakeAuthority, flow: Flow) -> Any:
    """A Starlette app with middleware that answers all exceptions."""

    async def catch(request: StarletteRequest, call_next: Any) -> Response:
        try:
            response: Response = await call_next(request)
        except Exception as error:  # noqa: BLE001 - this is what such apps do
            return _oops(request, error)
        return response

    app = Starlette(routes=_ROUTES)
    app.add_middleware(BaseHTTPMiddleware, dispatch=catch)
    return behind_asgi(app, authority, flow)


def starlette_mounted_app(authority: FakeAuthority, flow: Flow) -> Any:
    app = Starlette(routes=[Mount("/", Starlette(routes=_ROUTES))])
    app.add_middleware(
        asgi.SessionAuthorityMiddleware, authority=_async_client(authority), flow=flow
    )
    return app


def _fastapi() -> FastAPI:
    app = FastAPI()

    @app.get("/me")
    def me(request: Request) -> str:  # this page runs on a thread
        return user_of(request.scope)

    @app.get("/half")
    @app.get("/late")
    async def late(request: Request) -> StreamingResponse:
        return StreamingResponse(parts(request.scope))

    @app.get("/group")
    async def group(request: Request) -> str:
        return await user_in_a_group(request.scope)

    return app


def fastapi_wrapped_app(authority: FakeAuthority, flow: Flow) -> Any:
    return behind_asgi(_fastapi(), authority, flow)


def fastapi_mounted_app(authority: FakeAuthority, flow: Flow) -> Any:
    app = FastAPI()
    app.add_middleware(
        asgi.SessionAuthorityMiddleware, authority=_async_client(authority), flow=flow
    )
    app.mount("/", _fastapi())
    return app


# --- Litestar -------------------------------------------------------------------------------------


@litestar.get("/me")
async def _litestar_me(request: litestar.Request[Any, Any, Any]) -> str:
    return user_of(request.scope)


@litestar.get(["/late", "/half"])
async def _litestar_late(request: litestar.Request[Any, Any, Any]) -> litestar.response.Stream:
    return litestar.response.Stream(parts(request.scope))


@litestar.get("/group")
async def _litestar_group(request: litestar.Request[Any, Any, Any]) -> str:
    return await user_in_a_group(request.scope)


_HANDLERS = [_litestar_me, _litestar_late, _litestar_group]


def litestar_app(authority: FakeAuthority, flow: Flow) -> Any:
    return behind_asgi(litestar.Litestar(_HANDLERS, openapi_config=None), authority, flow)


def litestar_catching_app(authority: FakeAuthority, flow: Flow) -> Any:
    def oops(_: Any, error: Exception) -> litestar.Response[str]:
        return litestar.Response("oops", status_code=500)

    app = litestar.Litestar(_HANDLERS, exception_handlers={Exception: oops}, openapi_config=None)
    return behind_asgi(app, authority, flow)


# --- Quart ----------------------------------------------------------------------------------------


def _quart() -> quart.Quart:
    app = quart.Quart(__name__)

    @app.get("/me")
    async def me() -> str:
        return user_of(quart.request.scope)

    @app.get("/half")
    @app.get("/late")
    async def late() -> Any:
        return parts(quart.request.scope), 200

    @app.get("/group")
    async def group() -> str:
        return await user_in_a_group(quart.request.scope)

    return app


def quart_app(authority: FakeAuthority, flow: Flow) -> Any:
    return behind_asgi(_quart(), authority, flow)


def quart_catching_app(authority: FakeAuthority, flow: Flow) -> Any:
    app = _quart()

    @app.errorhandler(Exception)
    async def oops(error: Exception) -> tuple[str, int]:
        return "oops", 500

    return behind_asgi(app, authority, flow)


# --- Falcon ---------------------------------------------------------------------------------------


class _AsyncMe:
    async def on_get(self, request: Any, response: Any) -> None:
        response.text = user_of(request.scope)


class _AsyncLate:
    async def on_get(self, request: Any, response: Any) -> None:
        response.stream = parts(request.scope)


class _AsyncGroup:
    async def on_get(self, request: Any, response: Any) -> None:
        response.text = await user_in_a_group(request.scope)


class _Me:
    def on_get(self, request: Any, response: Any) -> None:
        response.text = wsgi.visit_of(request.env).require(max_age=RECENT).user_id


class _Late:
    def on_get(self, request: Any, response: Any) -> None:
        response.stream = parts_of(request.env)


def falcon_async_app(authority: FakeAuthority, flow: Flow) -> Any:
    app = falcon.asgi.App()
    app.add_route("/me", _AsyncMe())
    app.add_route("/late", _AsyncLate())
    app.add_route("/half", _AsyncLate())
    app.add_route("/group", _AsyncGroup())
    return behind_asgi(app, authority, flow)


def falcon_app(authority: FakeAuthority, flow: Flow) -> Any:
    app = falcon.App()
    app.add_route("/me", _Me())
    app.add_route("/late", _Late())
    app.add_route("/half", _Late())
    return behind_wsgi(app, authority, flow)


# --- Bottle and Pyramid ---------------------------------------------------------------------------


def _bottle() -> bottle.Bottle:
    app = bottle.Bottle()
    app.get(
        "/me",
        callback=lambda: wsgi.visit_of(bottle.request.environ).require(max_age=RECENT).user_id,
    )
    app.get(["/late", "/half"], callback=lambda: parts_of(bottle.request.environ))
    return app


def bottle_app(authority: FakeAuthority, flow: Flow) -> Any:
    return behind_wsgi(_bottle(), authority, flow)


def bottle_catching_app(authority: FakeAuthority, flow: Flow) -> Any:
    app = _bottle()
    app.error(500)(lambda error: json.dumps({"error": "oops"}))
    return behind_wsgi(app, authority, flow)


def _pyramid(*, catching: bool) -> Any:
    with Configurator() as config:
        for name, view in (
            ("me", lambda request: PyramidResponse(b"".join(parts_of(request.environ)))),
            ("late", lambda request: PyramidResponse(app_iter=parts_of(request.environ))),
            ("half", lambda request: PyramidResponse(app_iter=parts_of(request.environ))),
        ):
            config.add_route(name, f"/{name}")
            config.add_view(view, route_name=name)
        if catching:
            config.add_exception_view(lambda request: PyramidResponse("oops", 500))
        return config.make_wsgi_app()


def pyramid_app(authority: FakeAuthority, flow: Flow) -> Any:
    return behind_wsgi(_pyramid(catching=False), authority, flow)


def pyramid_catching_app(authority: FakeAuthority, flow: Flow) -> Any:
    return behind_wsgi(_pyramid(catching=True), authority, flow)


# --- Flask ----------------------------------------------------------------------------------------


def _flask(flow: Flow, authority: FakeAuthority) -> tuple[flask.Flask, flask.Blueprint]:
    app, pages = flask.Flask(__name__), flask.Blueprint("pages", __name__)
    pages.add_url_rule("/me", "me", lambda: for_flask.visit().require(max_age=RECENT).user_id)
    for name in ("late", "half"):
        pages.add_url_rule(
            f"/{name}", name, lambda: flask.Response(parts_of(flask.request.environ))
        )
    return app, pages


def flask_blueprint_app(authority: FakeAuthority, flow: Flow) -> Any:
    """A Flask app with a blueprint that answers all exceptions of its own pages."""
    app, pages = _flask(flow, authority)
    pages.register_error_handler(Exception, lambda error: ("oops", 500))
    app.register_blueprint(pages)
    for_flask.install(app, _client(authority), flow)
    return app


def flask_wrapped_app(authority: FakeAuthority, flow: Flow) -> Any:
    """A Flask app inside the WSGI middleware, without `install`."""
    app, pages = _flask(flow, authority)
    app.register_blueprint(pages)
    return behind_wsgi(app, authority, flow)


ASGI_APPS: Apps = {
    "starlette": starlette_app,
    "starlette, handler for all": starlette_catching_app,
    "starlette, middleware for all": starlette_catching_middleware_app,
    "starlette, mounted": starlette_mounted_app,
    "fastapi, wrapped": fastapi_wrapped_app,
    "fastapi, mounted": fastapi_mounted_app,
    "litestar": litestar_app,
    "litestar, handler for all": litestar_catching_app,
    "quart": quart_app,
    "quart, handler for all": quart_catching_app,
    "falcon": falcon_async_app,
}
WSGI_APPS: Apps = {
    "falcon for WSGI": falcon_app,
    "bottle": bottle_app,
    "bottle, handler for all": bottle_catching_app,
    "pyramid": pyramid_app,
    "pyramid, view for all": pyramid_catching_app,
    "flask, blueprint": flask_blueprint_app,
    "flask, wrapped": flask_wrapped_app,
}
