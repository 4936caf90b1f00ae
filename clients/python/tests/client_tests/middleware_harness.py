"""The harness for middleware: one small app in FastAPI, Flask, Django and bare WSGI, with the fake
service behind it, and a browser for each app.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

import django
import grpc
import httpx
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path as url_path
from fastapi import Depends, FastAPI
from fastapi import Request as FastApiRequest
from fastapi.responses import JSONResponse
from flask import Flask, jsonify, request
from starlette.datastructures import MutableHeaders, QueryParams
from werkzeug.wrappers import Request as PlainRequest
from werkzeug.wrappers import Response as PlainResponse

import session_authority_client.django as for_django
import session_authority_client.flask as for_flask
from session_authority_client import (
    AsyncSessionAuthority,
    DeviceNotFound,
    InvalidRequest,
    Session,
    SessionAuthority,
)
from session_authority_client._testing.messages import abort
from session_authority_client._testing.service import FakeService
from session_authority_client.asgi import SessionAuthorityMiddleware as AsgiMiddleware
from session_authority_client.flow import Flow, StepUpRequired
from session_authority_client.starlette import AsyncVisit, require_session, require_step_up
from session_authority_client.starlette import visit_of as visit_dependency
from session_authority_client.testing import FakeAuthority
from session_authority_client.wsgi import SessionAuthorityMiddleware as WsgiMiddleware
from session_authority_client.wsgi import visit_of

PATIENCE = timedelta(seconds=20)
RECENT = timedelta(minutes=5)
HTTPS = "https://app.example"
TOKEN, DEVICE = "__Host-session", "__Host-device"
BOTH = {TOKEN, DEVICE}
Visit = Annotated[AsyncVisit, Depends(visit_dependency)]
SignedIn = Annotated[Session, Depends(require_session)]
SignedInRecently = Annotated[Session, Depends(require_step_up(max_age=RECENT))]
Maker = Callable[..., Any]
Query = Mapping[str, str]

# --- one synchronous app --------------------------------------------------------------------------


def _sign_in(visit: for_flask.Visit, query: Query) -> object:
    user = query.get("user", "ada")
    issued = visit.sign_in(user, auth_methods=query.get("methods", "pwd").split())
    assert visit.require(max_age=RECENT).user_id == user
    return {"token": issued.access_token, "device": issued.device.device_id}


def _strong(visit: for_flask.Visit, query: Query) -> object:
    return visit.require(auth_methods=query.get("of", "otp hwk").split()).user_id


def _caught(visit: for_flask.Visit, _: Query) -> object:
    try:
        return visit.require(max_age=RECENT).user_id
    except StepUpRequired as refused:
        assert visit.session is not None
        return [visit.session.user_id, str(refused.wanted.max_age)]


def how_to_remember(query: Query) -> dict[str, Any]:
    """Reads the arguments of a sign-in from a query: how the session is to end."""
    named: dict[str, Any] = {"remember": "brief" not in query}
    if "idle_minutes" in query:
        named["idle_timeout"] = timedelta(minutes=int(query["idle_minutes"]))
    return named


def _sign_in_for(visit: for_flask.Visit, query: Query) -> object:
    issued = visit.sign_in("ada", **how_to_remember(query))
    return {"token": issued.access_token, "device": issued.device.device_id}


def seconds_left(left: timedelta | None) -> float | None:
    """Returns the remaining time as a page shows it."""
    return None if left is None else left.total_seconds()


def _everywhere(visit: for_flask.Visit, query: Query) -> object:
    return visit.sign_out_everywhere(except_current="also_here" not in query)


def _devices(visit: for_flask.Visit, _: Query) -> object:
    return [{"id": device.device_id, "current": device.current} for device in visit.devices()]


def _sign_out(visit: for_flask.Visit, query: Query) -> object:
    try:
        visit.sign_out(query.get("device"))
    except InvalidRequest as error:
        return str(error)
    return None


def _rename(visit: for_flask.Visit, query: Query) -> object:
    try:
        return visit.rename(query["device"], query["name"]).display_name
    except (DeviceNotFound, InvalidRequest) as error:
        return type(error).__name__


def _claims(visit: for_flask.Visit, query: Query) -> object:
    if "email" in query:
        visit.update_claims({"email": query["email"]})
    return visit.require().claims


def query_of_app(query: Query) -> dict[str, str]:
    """Reads the arguments that the app itself gives to `next_path`."""
    return {"default": query["default"]} if "default" in query else {}


VIEWS: Mapping[str, Callable[[for_flask.Visit, Query], object]] = {
    "/sign-in": _sign_in,
    "/sign-in-for": _sign_in_for,
    "/sign-out": _sign_out,
    "/sign-out-everywhere": _everywhere,
    "/renew": lambda visit, _: {"token": visit.renew().access_token},
    "/devices": _devices,
    "/rename": _rename,
    "/session/time-left": lambda visit, _: seconds_left(visit.time_left()),
    "/claims": _claims,
    "/me": lambda visit, _: visit.require().user_id,
    "/recent": lambda visit, _: visit.session and visit.session.user_id,
    "/strong": _strong,
    "/caught": _caught,
    "/maybe": lambda visit, _: visit.session and visit.session.user_id,
    "/next": lambda visit, query: visit.next_path(**query_of_app(query)),
    "/static": lambda *_: "same for all",
}
CACHEABLE = "public, max-age=600"


def _finished(path: str, response: Any, said: Sequence[str] = ()) -> Any:
    """Completes a response. Static pages get cookies and may be cached. `said` are headers."""
    for line in said:
        name, _, value = line.partition(": ")
        response.headers[name] = value
    if path == "/static":
        response.headers["Cache-Control"] = CACHEABLE
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
    return response


def plain_app(
    authority: FakeAuthority, flow: Flow | None = None, timeout: timedelta = PATIENCE
) -> Any:
    """Makes the app for WSGI, without a framework."""

    @PlainRequest.application
    def app(request: PlainRequest) -> PlainResponse:
        visit = visit_of(request.environ)
        if request.path == "/recent":
            visit.require(max_age=RECENT)
        told = VIEWS[request.path](visit, request.args)
        made = PlainResponse(json.dumps(told), mimetype="application/json")
        return _finished(request.path, made, request.args.getlist("say"))  # type: ignore[no-any-return]

    return WsgiMiddleware(app, lambda: authority.client(timeout=timeout), flow)


_FLASK_GUARDS: Mapping[str, Callable[[Any], Any]] = {
    "/me": for_flask.require_session,
    "/recent": for_flask.require_session(max_age=RECENT),
}
_DJANGO_GUARDS: Mapping[str, Callable[[Any], Any]] = {
    "/me": for_django.require_session,
    "/recent": for_django.require_session(max_age=RECENT),
}


def flask_app(
    authority: FakeAuthority, flow: Flow | None = None, timeout: timedelta = PATIENCE
) -> Any:
    """Makes the app in Flask."""
    app = Flask(__name__, static_folder=None)

    def serve(path: str) -> Any:
        made = jsonify(VIEWS[path](for_flask.visit(), request.args))
        return _finished(path, made, request.args.getlist("say"))

    for path in VIEWS:
        view = partial(serve, path)
        app.add_url_rule(
            path,
            path,
            _FLASK_GUARDS.get(path, lambda view: view)(view),
            methods=["GET", "POST"],
        )
    for_flask.install(app, lambda: authority.client(timeout=timeout), flow)
    return app


def _django_view(path: str, request: HttpRequest) -> HttpResponse:
    told = VIEWS[path](for_django.visit_of(request), request.GET)
    made: HttpResponse = _finished(path, JsonResponse(told, safe=False), request.GET.getlist("say"))
    return made


class _Urls:
    urlpatterns = tuple(
        url_path(
            path[1:],
            _DJANGO_GUARDS.get(path, lambda view: view)(partial(_django_view, path)),
        )
        for path in VIEWS
    )


# Django has one project for each process.
_current: list[FakeAuthority] = []


@dataclass(frozen=True)
class _Made:
    """Makes a client for the authority that is the current one at that moment."""

    timeout: timedelta

    def __call__(self) -> SessionAuthority:
        return _current[-1].client(timeout=self.timeout)


def django_app(
    authority: FakeAuthority,
    flow: Flow | None = None,
    timeout: timedelta = PATIENCE,
    below: Sequence[str] = (),
) -> Any:
    """Makes the app in Django. `below` is further middleware of the project, inside ours."""
    _current[:] = [authority]
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
            ROOT_URLCONF=_Urls,
            SECRET_KEY="for tests",
        )
        django.setup()
    settings.MIDDLEWARE = ["session_authority_client.django.SessionAuthorityMiddleware", *below]
    settings.SESSION_AUTHORITY = _Made(timeout)
    settings.SESSION_AUTHORITY_FLOW = flow
    return WSGIHandler()


# --- the same app for asyncio ---------------------------------------------------------------------


class _Saying:
    """Adds the headers that a request's query names."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        said = QueryParams(scope.get("query_string", b"")).getlist("say")

        async def say(message: Any) -> None:
            if said and message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message["headers"]))
                for line in said:
                    name, _, value = line.partition(": ")
                    headers[name] = value
                message = {**message, "headers": headers.raw}
            await send(message)

        await self._app(scope, receive, say)


def fastapi_app(
    authority: FakeAuthority, flow: Flow | None = None, timeout: timedelta = PATIENCE
) -> FastAPI:
    """Makes the app in FastAPI."""
    app = FastAPI()

    @app.post("/sign-in")
    async def sign_in(visit: Visit, user: str = "ada", methods: str = "pwd") -> dict[str, str]:
        issued = await visit.sign_in(user, auth_methods=methods.split())
        assert visit.require(max_age=RECENT).user_id == user
        return {"token": issued.access_token, "device": issued.device.device_id}

    @app.post("/sign-in-for")
    async def sign_in_for(visit: Visit, request: FastApiRequest) -> dict[str, str]:
        issued = await visit.sign_in("ada", **how_to_remember(request.query_params))
        return {"token": issued.access_token, "device": issued.device.device_id}

    @app.post("/sign-out")
    async def sign_out(visit: Visit, device: str | None = None) -> str | None:
        try:
            await visit.sign_out(device)
        except InvalidRequest as error:
            return str(error)
        return None

    @app.post("/sign-out-everywhere")
    async def sign_out_everywhere(visit: Visit, also_here: bool = False) -> int:
        return await visit.sign_out_everywhere(except_current=not also_here)

    @app.post("/rename")
    async def rename(visit: Visit, device: str, name: str) -> str:
        try:
            return (await visit.rename(device, name)).display_name
        except (DeviceNotFound, InvalidRequest) as error:
            return type(error).__name__

    @app.post("/claims")
    async def claims(visit: Visit, email: str | None = None) -> dict[str, str]:
        if email is not None:
            await visit.update_claims({"email": email})
        return dict(visit.require().claims)

    @app.post("/renew")
    async def renew(visit: Visit) -> dict[str, str | None]:
        return {"token": (await visit.renew()).access_token}

    @app.get("/devices")
    async def devices(visit: Visit) -> list[dict[str, Any]]:
        return [
            {"id": device.device_id, "current": device.current} for device in await visit.devices()
        ]

    @app.get("/session/time-left")
    async def time_left(visit: Visit) -> float | None:
        return seconds_left(visit.time_left())

    @app.get("/me")
    async def me(session: SignedIn) -> str:
        return session.user_id

    @app.api_route("/recent", methods=["GET", "POST"])
    async def recent(session: SignedInRecently) -> str:
        return session.user_id

    @app.get("/strong")
    async def strong(visit: Visit, of: str = "otp hwk") -> str:
        return visit.require(auth_methods=of.split()).user_id

    @app.get("/caught")
    async def caught(visit: Visit) -> object:
        try:
            return visit.require(max_age=RECENT).user_id
        except StepUpRequired as refused:
            assert visit.session is not None
            return [visit.session.user_id, str(refused.wanted.max_age)]

    @app.get("/maybe")
    async def maybe(request: FastApiRequest) -> str | None:
        session = request.state.visit.session
        return session.user_id if session else None

    @app.api_route("/next", methods=["GET", "POST"])
    async def next_path(visit: Visit, default: str = "/") -> str:
        return visit.next_path(default)

    @app.get("/static")
    async def static(visit: Visit) -> JSONResponse:
        return _finished("/static", JSONResponse("same for all"))  # type: ignore[no-any-return]

    app.add_middleware(_Saying)
    app.add_middleware(
        AsgiMiddleware,
        authority=lambda: authority.async_client(timeout=timeout),
        flow=flow or Flow(),
    )
    return app


WSGI_APPS: Mapping[str, Maker] = {"plain": plain_app, "flask": flask_app, "django": django_app}
APPS: Mapping[str, Maker] = {"fastapi": fastapi_app, **WSGI_APPS}


def doubled(name: str, authority: FakeAuthority) -> Any:
    """The app with one middleware inside another."""
    if name == "django":
        return django_app(
            authority, below=["session_authority_client.django.SessionAuthorityMiddleware"]
        )
    app = APPS[name](authority)
    if name == "fastapi":
        app.add_middleware(AsgiMiddleware, authority=authority.async_client)
        return app
    return WsgiMiddleware(app, authority.client)


# --- browsers -------------------------------------------------------------------------------------


class OnThreads(httpx.AsyncBaseTransport):
    """A transport to synchronous apps with the interface of an asynchronous transport."""

    def __init__(self, app: Any, peer: str, *, raises: bool = True) -> None:
        self._transport = httpx.WSGITransport(app, raises, remote_addr=peer)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await asyncio.to_thread(self._transport.handle_request, request)
        body = await asyncio.to_thread(answer.read)
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=httpx.ByteStream(body)
        )


def _browser(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    headers = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    return httpx.AsyncClient(transport=transport, base_url=HTTPS, headers=headers)


@asynccontextmanager
async def browser_of(app: Any, peer: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    """A browser that keeps cookies, at an app whose lifespan events run."""
    if not isinstance(app, FastAPI):
        transport: httpx.AsyncBaseTransport = OnThreads(app, peer)
        async with _browser(transport) as browser:
            yield browser
        return
    started, stop = asyncio.Event(), asyncio.Event()
    messages = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))

    async def receive() -> Any:
        if started.is_set():
            await stop.wait()
        return next(messages)

    async def send(message: Any) -> None:
        started.set()

    scope = {"type": "lifespan", "state": {}, "asgi": {}}
    lifespan = asyncio.create_task(app(scope, receive, send))
    await started.wait()
    async with _browser(httpx.ASGITransport(app=app, client=(peer, 5000))) as browser:
        yield browser
    stop.set()
    await lifespan


async def serve_asgi(app: Any, client: AsyncSessionAuthority, send: Any, **scope: Any) -> None:
    """Sends one request to an app without a framework, through the middleware."""
    base = {"type": "http", "method": "GET", "path": "/", "headers": []}
    middleware: Any = AsgiMiddleware(app, client)
    await middleware({**base, **scope}, None, send)


async def talk_asgi(app: Any, authority: FakeAuthority, **scope: Any) -> list[Any]:
    """Returns the messages that an app without a framework sends through the middleware."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with authority.async_client(timeout=PATIENCE) as client:
        await serve_asgi(app, client, send, **scope)
    return sent


def set_cookies(response: httpx.Response) -> dict[str, str]:
    """Returns the cookies that a response sets, by name."""
    lines = [line.strip() for line in response.headers.get_list("set-cookie")]
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


def attributes(line: str) -> set[str]:
    """Returns the attributes after a cookie's value, in any order."""
    return set(line.split("; ")[1:])


def cookie_header(issued: Mapping[str, str]) -> dict[str, str]:
    """Returns the `Cookie` header of a browser after a sign-in."""
    return {"cookie": f"{TOKEN}={issued['token']}; {DEVICE}={issued['device']}"}


# --- a service that misbehaves --------------------------------------------------------------------


def served_by(service: FakeService) -> FakeAuthority:
    """Makes a fake authority with a service of the test's own."""
    authority = FakeAuthority()
    authority._service = service
    return authority


class RefusingService(FakeService):
    """A service whose access policy does not allow the app to call some methods."""

    def __init__(self, *methods: str) -> None:
        super().__init__(timedelta(hours=1))
        for method in methods:
            setattr(self, method, self._refuse)

    @staticmethod
    def _refuse(_: Any, context: Any) -> None:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")


class StumblingService(FakeService):
    """A service that can be unavailable for renewals only."""

    def __init__(self) -> None:
        super().__init__(timedelta(hours=1))
        self.renewals_away = False

    def renew_session(self, request: Any, context: Any) -> Any:
        if self.renewals_away:
            abort(context, grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        return super().renew_session(request, context)
