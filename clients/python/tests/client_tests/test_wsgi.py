"""The middleware for WSGI: threads and forks, and apps that answer late or lazily."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import httpx
import pytest
from flask import Response

import session_authority_client.flask as for_flask
from client_tests.middleware_harness import (
    HTTPS,
    PATIENCE,
    WSGI_APPS,
    Maker,
    browser_of,
    cookie_header,
    flask_app,
    set_cookies,
)
from session_authority_client import SessionAuthority
from session_authority_client.flow import NoAnswer, Refused, SignInRequired
from session_authority_client.testing import FakeAuthority
from session_authority_client.wsgi import SessionAuthorityMiddleware, visit_of

App = Callable[[Any, Any], Iterable[bytes]]


@pytest.fixture(params=WSGI_APPS)
def make(request: pytest.FixtureRequest) -> Maker:
    return WSGI_APPS[request.param]


def get(app: Any) -> httpx.Response:
    """The response to a request without cookies."""
    with httpx.Client(transport=httpx.WSGITransport(app=app), base_url=HTTPS) as browser:
        return browser.get("/")


async def test_a_head_request_is_answered_without_a_body(make: Maker, authority: FakeAuthority):
    async with browser_of(make(authority)) as browser:
        head = await browser.head("/me")
    assert (head.status_code, head.content) == (401, b"")


async def test_parallel_requests_renew_once(authority: FakeAuthority, make: Maker):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(16))
    app = make(authority)
    async with browser_of(app) as browser:
        issued = (await browser.post("/sign-in")).json()
    authority.expire_tokens()

    async def ask() -> httpx.Response:
        async with browser_of(app) as one:
            return await one.get("/me", headers=cookie_header(issued))

    answers = await asyncio.gather(*(ask() for _ in range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert authority.rotations == 1
    renewed = {set_cookies(answer)["__Host-session"].partition(";")[0] for answer in answers}
    issued["token"] = renewed.pop()
    assert (await ask()).status_code == 200


async def test_a_streamed_response_sets_cookies_only_before_it_starts(authority: FakeAuthority):
    app = flask_app(authority)

    @app.get("/stream")
    def stream() -> Response:
        visit = for_flask.visit()

        def body() -> Iterator[bytes]:
            yield b"one"
            with pytest.raises(RuntimeError, match="headers are out"):
                visit.sign_out()
            yield b"two"

        return Response(body())

    async with browser_of(app) as browser:
        await browser.post("/sign-in")
        authority.age_tokens()
        answer = await browser.get("/stream")
    assert (answer.content, len(set_cookies(answer))) == (b"onetwo", 2)


def empty(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return []


def test_a_forked_process_makes_its_own_client(
    authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch
):
    made = []

    def make_client() -> SessionAuthority:
        made.append(authority.client(timeout=PATIENCE))
        return made[-1]

    app = SessionAuthorityMiddleware(empty, make_client)
    for _ in range(2):
        get(app)
    assert len(made) == 1
    monkeypatch.setattr("os.getpid", lambda: -1)
    for _ in range(2):
        get(app)
    assert len(made) == 2


def test_exceptions_of_the_app_are_passed_on(authority: FakeAuthority):
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise ZeroDivisionError

    with authority.client() as client, pytest.raises(ZeroDivisionError):
        get(SessionAuthorityMiddleware(app, client))


def test_a_missing_middleware_is_an_error():
    with pytest.raises(RuntimeError, match="not around this app"):
        visit_of({})


def test_a_refusal_is_an_exception_that_apps_may_catch(authority: FakeAuthority):
    caught = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        try:
            visit_of(environ).require()
        except Refused as refused:
            caught.append(refused.code)
        start_response("200 OK", [])
        return [b"as you like"]

    with authority.client() as client:
        assert get(SessionAuthorityMiddleware(app, client)).content == b"as you like"
    assert caught == ["sign_in_required"]


async def test_an_app_may_answer_an_outage_itself(authority: FakeAuthority):
    app = flask_app(authority)

    @app.errorhandler(NoAnswer)
    def sorry(refused: NoAnswer) -> tuple[str, int]:
        return "sorry", refused.answer.status

    async with browser_of(app) as browser:
        await browser.post("/sign-in")
        with authority.unavailable():
            answer = await browser.get("/me")
    assert (answer.status_code, answer.content) == (503, b"sorry")


# --- apps that answer late ------------------------------------------------------------------------


class Served(SimpleHandler):
    """A server that follows PEP 3333: it sends the headers with the first contents."""

    def __init__(self, method: str = "GET") -> None:
        self.out = io.BytesIO()
        environ = {
            "REQUEST_METHOD": method,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "PATH_INFO": "/",
            "SERVER_NAME": "app",
        }
        super().__init__(
            io.BytesIO(),
            self.out,
            io.StringIO(),
            environ | {"SERVER_PORT": "80", "QUERY_STRING": "", "SCRIPT_NAME": ""},
        )

    def log_exception(self, exc_info: Any) -> None:
        """Remembers the type of the exception."""
        self.raised = exc_info[0]

    raised: type[BaseException] | None = None


def serve(authority: FakeAuthority, app: App, method: str = "GET") -> tuple[Served, str]:
    """Serves one request. Returns the server, and the response as text."""
    served = Served(method)
    with authority.client() as client:
        # The validator checks both sides against PEP 3333.
        served.run(validator(SessionAuthorityMiddleware(app, client)))
    return served, served.out.getvalue().decode()


class Chunks:
    """Contents that count how often they were closed."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("started", ["before", "inside", "never"])
def test_a_refusal_before_the_first_contents_of_a_generator_is_the_answer(
    authority: FakeAuthority, started: str
):
    made: list[Chunks] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        def chunks() -> Iterator[bytes]:
            if started == "inside":
                start_response("200 OK", [("Content-Type", "text/plain"), ("X-App", "1")])
            visit_of(environ).require()
            yield b"secret"

        if started == "before":
            start_response("200 OK", [("Content-Type", "text/plain"), ("X-App", "1")])
        made.append(Chunks(chunks()))
        return made[-1]

    served, text = serve(authority, app)
    assert served.raised is None
    assert text.startswith("HTTP/1.0 401 Unauthorized\r\n")
    assert text.endswith('\r\n\r\n{"error": "sign_in_required"}')
    assert "X-App" not in text
    assert made[-1].closed == 1
    served, text = serve(authority, app, "HEAD")
    assert (served.raised, text.endswith("\r\n\r\n"), made[-1].closed) == (None, True, 1)


def test_a_refusal_after_the_first_contents_of_a_generator_breaks_the_response_off(
    authority: FakeAuthority,
):
    made: list[Chunks] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        def chunks() -> Iterator[bytes]:
            yield b"one"
            visit_of(environ).require()
            yield b"secret"

        start_response("200 OK", [("Content-Type", "text/plain")])
        made.append(Chunks(chunks()))
        return made[-1]

    served, text = serve(authority, app)
    assert served.raised is SignInRequired
    assert text.startswith("HTTP/1.0 200 OK\r\n")
    assert text.endswith("one")
    assert made[-1].closed == 1


def test_a_refusal_after_written_contents_breaks_the_response_off(authority: FakeAuthority):
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"one")
        visit_of(environ).require()
        return [b"secret"]

    served, text = serve(authority, app)
    assert (served.raised, text.endswith("one")) == (SignInRequired, True)


def test_a_refusal_after_start_response_is_the_answer(authority: FakeAuthority):
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        visit_of(environ).require()
        return [b"secret"]

    assert serve(authority, app)[1].startswith("HTTP/1.0 401 ")


def test_contents_are_made_only_when_the_server_reads_them(authority: FakeAuthority):
    made: list[int] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        for number in range(3):
            made.append(number)
            yield b"%d" % number

    with authority.client() as client:
        body = SessionAuthorityMiddleware(app, client)(
            {"REQUEST_METHOD": "GET"}, lambda status, headers: None
        )
        assert made == []
        assert (next(iter(body)), made) == (b"0", [0])
        body.close()  # type: ignore[attr-defined]
        assert list(body) == []


def test_contents_that_the_server_does_not_read_are_closed(authority: FakeAuthority):
    chunks = Chunks(iter([b"one"]))
    with authority.client() as client:
        middleware: Any = SessionAuthorityMiddleware(lambda environ, start: chunks, client)
        middleware({"REQUEST_METHOD": "GET"}, None).close()
    assert chunks.closed == 1


def test_files_and_lists_reach_the_server_unchanged(authority: FakeAuthority):
    file = FileWrapper(io.BytesIO(b"contents"))
    environ = {"REQUEST_METHOD": "GET", "wsgi.file_wrapper": FileWrapper}
    with authority.client() as client:
        for body in (file, [b"one"], (b"one",)):
            app: Any = lambda environ, start, body=body: body  # noqa: E731
            middleware: Any = SessionAuthorityMiddleware(app, client)
            assert middleware(dict(environ), None) is body


def test_a_refusal_before_the_first_part_of_a_flask_stream_is_the_answer(authority: FakeAuthority):
    app = flask_app(authority)

    @app.get("/late")
    def late() -> Response:
        visit = for_flask.visit()
        return Response(visit.require().user_id.encode() for _ in range(1))

    served = Served()
    served.base_env["PATH_INFO"] = "/late"
    served.run(validator(app))
    assert served.out.getvalue().startswith(b"HTTP/1.0 401 ")


def test_an_app_may_start_its_response_again_after_a_fault(authority: FakeAuthority):
    """An app that found a fault may call `start_response` again, with `exc_info` (PEP 3333)."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("500 Oh", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"oh"]

    _, text = serve(authority, app)
    assert text.startswith("HTTP/1.0 500 Oh")
    assert text.count("Vary:") == 1
