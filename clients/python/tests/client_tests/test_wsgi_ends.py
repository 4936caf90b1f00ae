"""Under WSGI, an event stream ends with its session before its next part. Apps end other streams
with the helpers of a visit.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import flask
import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, StreamingHttpResponse
from django.test import override_settings
from django.urls import path as url_path

import session_authority_client.flask as for_flask
from client_tests.middleware_harness import PATIENCE, django_app
from session_authority_client import SessionAuthority
from session_authority_client._async.visits import AsyncVisits
from session_authority_client.django import visit_of as django_visit
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority
from session_authority_client.wsgi import SessionAuthorityMiddleware, visit_of
from tests.support.waiting import wait_for

SECONDS = PATIENCE.total_seconds()


class Parts:
    """A stream that makes its next part when a test allows it."""

    def __init__(self) -> None:
        self.ready = threading.Semaphore(1)
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            while True:
                assert self.ready.acquire(timeout=SECONDS)
                yield b"data: hello\n\n"
        finally:
            self.closed = True


STREAM = "text/event-stream"
Made = Any


def plain(client: SessionAuthority, parts: Parts, kind: str, flow: Flow) -> Made:
    def app(environ: Any, start_response: Any) -> Any:
        visit_of(environ).require()
        start_response("200 OK", [("Content-Type", kind)])
        return iter(parts)

    return SessionAuthorityMiddleware(app, client, flow)


def of_flask(client: SessionAuthority, parts: Parts, kind: str, flow: Flow) -> Made:
    app = flask.Flask(__name__, static_folder=None)
    for_flask.install(app, client, flow)

    @app.get("/")
    @for_flask.require_session
    def stream() -> flask.Response:
        return flask.Response(iter(parts), content_type=kind)

    return app.wsgi_app


def of_django(client: SessionAuthority, parts: Parts, kind: str, flow: Flow) -> Made:
    def stream(request: HttpRequest) -> StreamingHttpResponse:
        django_visit(request).require()
        return StreamingHttpResponse(iter(parts), content_type=kind)

    django_app(FakeAuthority(), flow)  # for the settings of a Django project
    settings.SESSION_AUTHORITY = lambda: client
    urls, handler = (url_path("", stream),), WSGIHandler()

    def app(environ: Any, start_response: Any) -> Any:
        with override_settings(ROOT_URLCONF=urls):
            return handler(environ, start_response)

    return app


def environ_of(given: dict[str, str]) -> dict[str, Any]:
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in given.items()}
    return {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
        "HTTP_HOST": "localhost", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), **headers,
    }  # fmt: skip


def start_response(*_: Any) -> Any:
    return None


@pytest.fixture
def client(authority: FakeAuthority) -> Iterator[SessionAuthority]:
    with authority.client(timeout=PATIENCE) as client:
        yield client


def sign_out(authority: FakeAuthority, client: SessionAuthority) -> None:
    """Signs the user out, and waits until this client knows."""
    authority.sign_out("ada")
    client.endings.sessions.doubt("ada")
    wait_for(lambda: client.endings.sessions.is_empty, "the end to be known", SECONDS)


each_app = pytest.mark.parametrize("make", [plain, of_flask, of_django])


@each_app
def test_an_event_stream_ends_before_its_next_part(
    authority: FakeAuthority, client: SessionAuthority, make: Any
):
    parts = Parts()
    body = make(client, parts, STREAM, Flow())(environ_of(authority.sign_in("ada")), start_response)
    chunks = iter(body)
    assert b"hello" in next(chunks)
    sign_out(authority, client)
    parts.ready.release()
    assert list(chunks) == []
    body.close()
    assert parts.closed


@each_app
@pytest.mark.parametrize(
    ("kind", "flow"), [("text/csv", Flow()), (STREAM, Flow(end_connections=False))]
)
def test_other_streams_continue_after_the_session_ended(
    authority: FakeAuthority, client: SessionAuthority, make: Any, kind: str, flow: Flow
):
    parts = Parts()
    body = make(client, parts, kind, flow)(environ_of(authority.sign_in("ada")), start_response)
    chunks = iter(body)
    assert b"hello" in next(chunks)
    authority.sign_out("ada")
    parts.ready.release()
    assert b"hello" in next(chunks)
    body.close()


def test_an_app_can_end_any_stream_with_the_helpers(
    authority: FakeAuthority, client: SessionAuthority
):
    parts, seen = Parts(), []

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/csv")])
        visit = visit_of(environ)
        yield from visit.until_ended(parts)
        seen.append(visit.ended(timedelta(seconds=SECONDS)))

    wrapped: Any = SessionAuthorityMiddleware(app, client)
    body = wrapped(environ_of(authority.sign_in("ada")), start_response)
    chunks = iter(body)
    assert b"hello" in next(chunks)
    sign_out(authority, client)
    parts.ready.release()
    assert list(chunks) == []
    assert (parts.closed, seen) == (True, [True])


async def test_a_stream_of_a_task_ends_while_it_waits(authority: FakeAuthority):
    closed: list[str] = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append("closed")

    async with authority.async_client(timeout=PATIENCE) as client:
        given = {name.lower(): [value] for name, value in authority.sign_in("ada").items()}
        visit = await AsyncVisits(client, Flow()).open("GET", given, "")
        wanted = visit.until_ended(items())
        assert await anext(wanted) == 1
        await asyncio.to_thread(authority.sign_out, "ada")
        client.endings.sessions.doubt("ada")
        assert [item async for item in wanted] == []
        assert closed == ["closed"]
