"""A refusal of an app is answered 401, 303 or 503 in every framework, however the framework handles
exceptions.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from client_tests.frameworks import (
    ASGI_APPS,
    ASYNC_PAGES,
    PAGES,
    RECENT,
    WSGI_APPS,
    behind_asgi,
    behind_wsgi,
    parts_of,
    user_in_a_group,
    user_of,
)
from client_tests.middleware_harness import (
    HTTPS,
    PATIENCE,
    OnThreads,
    cookie_header,
    set_cookies,
    talk_asgi,
)
from client_tests.test_wsgi import Served
from session_authority_client import asgi, wsgi
from session_authority_client.flow import Flow, Refused
from session_authority_client.testing import FakeAuthority

JSON = {"Accept": "application/json"}
NAVIGATES = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
ROWS = [(name, page) for name in ASGI_APPS for page in ASYNC_PAGES] + [
    (name, page) for name in WSGI_APPS for page in PAGES
]


def browser_of(app: Any, name: str) -> httpx.AsyncClient:
    """Returns a browser at an app. Exceptions of an app for ASGI are raised here. An app for WSGI
    may start its response again with the exception, so its exceptions are not raised.
    """
    transport: httpx.AsyncBaseTransport = (
        httpx.ASGITransport(app) if name in ASGI_APPS else OnThreads(app, "127.0.0.1", raises=False)
    )
    return httpx.AsyncClient(transport=transport, base_url=HTTPS)


@pytest.mark.parametrize(("name", "page"), ROWS)
async def test_a_refusal_is_answered_in_every_framework(
    authority: FakeAuthority, name: str, page: str
):
    make = {**ASGI_APPS, **WSGI_APPS}[name]
    async with browser_of(make(authority, Flow(sign_in_url="/sign-in")), name) as browser:
        denied = await browser.get(page, headers=JSON)
        assert (denied.status_code, denied.json()) == (401, {"error": "sign_in_required"})
        assert denied.headers["www-authenticate"] == "Bearer"
        assert int(denied.headers["content-length"]) == len(denied.content)
        assert "Cookie" in denied.headers["vary"]
        sent = await browser.get(page, headers=NAVIGATES)
        assert (sent.status_code, sent.headers["location"]) == (303, f"/sign-in?next={page}")
        signed_in = authority.sign_in("ada")
        found = await browser.get(page, headers=signed_in)
        assert (found.status_code, "ada" in found.text) == (200, True)
        with authority.unavailable():
            away = await browser.get(page, headers={**signed_in, **JSON})
        assert (away.status_code, away.json()) == (503, {"error": "unavailable"})
        assert away.headers["retry-after"] == "1"


@pytest.mark.parametrize(("name", "page"), ROWS)
async def test_a_step_up_is_answered_in_every_framework(
    authority: FakeAuthority, name: str, page: str
):
    make = {**ASGI_APPS, **WSGI_APPS}[name]
    signed_in = authority.sign_in("ada")
    token, device = signed_in["Authorization"].removeprefix("Bearer "), signed_in["X-Device-Id"]
    cookies = cookie_header({"token": token, "device": device})
    authority.pass_time(2 * RECENT)
    async with browser_of(make(authority, Flow(sign_in_url="/sign-in")), name) as browser:
        denied = await browser.get(page, headers={**signed_in, **JSON})
        told = {"error": "insufficient_user_authentication", "max_age": 300}
        assert (denied.status_code, denied.json()) == (401, told)
        assert denied.headers["www-authenticate"].startswith(f'Bearer error="{told["error"]}", ')
        sent = await browser.get(page, headers={**cookies, **NAVIGATES})
        location = f"/sign-in?next={page}&reason=step_up&max_age=300"
        assert (sent.status_code, sent.headers["location"]) == (303, location)
        assert set_cookies(sent) == {}


@pytest.mark.parametrize(("name", "page"), ROWS)
async def test_a_refusal_after_a_replay_deletes_the_cookies_in_every_framework(
    authority: FakeAuthority, name: str, page: str
):
    signed_in = authority.sign_in("ada")
    token, device = signed_in["Authorization"].removeprefix("Bearer "), signed_in["X-Device-Id"]
    cookies = cookie_header({"token": token, "device": device})
    authority.replay_tokens()
    async with browser_of({**ASGI_APPS, **WSGI_APPS}[name](authority, Flow()), name) as browser:
        denied = await browser.get(page, headers={**cookies, **JSON})
    assert denied.status_code == 401
    assert len(set_cookies(denied)) == 2
    assert denied.headers.get_list("clear-site-data") == ['"cache"']
    assert denied.headers.get_list("cache-control") == ["no-store"]


@pytest.mark.parametrize("name", ASGI_APPS)
async def test_a_stream_that_refuses_half_way_never_looks_complete(
    authority: FakeAuthority, name: str
):
    """The server breaks the response off, because the app raised an exception or sent no end."""
    request = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[Any] = []
    raised: list[Exception] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        if request:
            return request.pop()
        await asyncio.Event().wait()
        raise AssertionError

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/half",
        "raw_path": b"/half",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"app.example")],
        "client": ("127.0.0.1", 5000),
        "server": ("app.example", 443),
    }
    app = ASGI_APPS[name](authority, Flow())
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001 - whatever it is
        raised.append(error)
    start, *bodies = sent
    assert (start["status"], bodies[0]["body"]) == (200, b"one ")
    assert [body for body in bodies if not body.get("more_body")] == []


@pytest.mark.parametrize("name", WSGI_APPS)
def test_a_wsgi_response_that_refuses_half_way_never_looks_complete(
    authority: FakeAuthority, name: str
):
    served = Served()
    served.base_env["PATH_INFO"] = "/half"
    served.run(WSGI_APPS[name](authority, Flow()))
    assert served.raised is not None
    assert served.out.getvalue().endswith(b"one ")


# --- answers of the app itself --------------------------------------------------------------------


async def refuses_and_sends(
    scope: Any, send: Any, status: int, body: bytes, *, at_once: bool = False
) -> None:
    with suppress(Refused):
        asgi.visit_of(scope).require() if at_once else user_of(scope)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


STANDS = (200, 302, 401, 403, 404)
# No app chooses these statuses for a user who is not signed in, but handlers for all exceptions do.
FAILS = (500, 502, 503, 599)
# Only code that knows of the refusal chooses these statuses.
DEPENDS = (400, 418, 422)
ANSWERS = [
    *((status, at_once, status) for status in STANDS for at_once in (True, False)),
    *((status, at_once, 401) for status in FAILS for at_once in (True, False)),
    *(
        (status, at_once, status if at_once else 401)
        for status in DEPENDS
        for at_once in (True, False)
    ),
]


@pytest.mark.parametrize(("status", "at_once", "seen"), ANSWERS)
async def test_an_app_may_answer_a_refusal_with_another_status(
    authority: FakeAuthority, status: int, at_once: bool, seen: int
):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await refuses_and_sends(scope, send, status, b"own words", at_once=at_once)

    start, body = await talk_asgi(app, authority)
    assert (start["status"], body["body"] == b"own words") == (seen, status == seen)

    def app_of_wsgi(environ: Any, start_response: Any) -> Any:
        visit = wsgi.visit_of(environ)
        with suppress(Refused):
            visit.require() if at_once else next(parts_of(environ))
        start_response(f"{status} So", [])
        return [b"own words"]

    async with browser_of(behind_wsgi(app_of_wsgi, authority, Flow()), "") as browser:
        answer = await browser.get("/")
    assert (answer.status_code, answer.content == b"own words") == (seen, status == seen)


async def test_an_empty_success_after_a_refusal_becomes_401(authority: FakeAuthority):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await refuses_and_sends(scope, send, 200, b"")

    start, _ = await talk_asgi(app, authority)
    assert start["status"] == 401


async def test_a_fault_after_an_ignored_refusal_stays_a_server_error(authority: FakeAuthority):
    """The app goes on without a session, and fails."""

    async def home(request: Request) -> Response:
        with suppress(Refused):
            asgi.visit_of(request.scope).require()
        raise ZeroDivisionError

    routes = [Route("/", home)]
    app = behind_asgi(Starlette(routes=routes), authority, Flow())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=HTTPS) as browser:
        assert (await browser.get("/")).status_code == 500
    async with browser_of(app, "starlette") as browser:
        with pytest.raises(ZeroDivisionError):
            await browser.get("/")


async def test_a_fault_in_a_group_with_a_refusal_is_still_raised_to_the_server(
    authority: FakeAuthority,
):
    async def home(request: Request) -> Response:
        async def fail() -> None:
            raise ZeroDivisionError

        async with asyncio.TaskGroup() as group:
            group.create_task(user_in_a_group(request.scope))
            group.create_task(fail())
        raise AssertionError

    app = behind_asgi(Starlette(routes=[Route("/", home)]), authority, Flow())
    async with browser_of(app, "starlette") as browser:
        with pytest.raises(ExceptionGroup):
            await browser.get("/")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=HTTPS) as browser:
        assert (await browser.get("/")).status_code == 401


async def test_a_fault_after_a_refusal_and_a_sign_in_stays_a_server_error(authority: FakeAuthority):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        visit = asgi.visit_of(scope)
        with suppress(Refused):
            visit.require()
        await visit.sign_in("ada")
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"oops"})

    start, body = await talk_asgi(app, authority)
    assert (start["status"], body["body"]) == (500, b"oops")


# --- WebSockets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1011, 4500])
@pytest.mark.parametrize("answers", [False, True])
async def test_a_handshake_that_a_framework_closed_after_a_refusal_is_refused(
    authority: FakeAuthority, code: int, answers: bool
):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with suppress(Refused):
            asgi.visit_of(scope).require()
        await send({"type": "websocket.close", "code": code})

    extensions: dict[str, Any] = {"websocket.http.response": {}} if answers else {}
    sent = await talk_asgi(app, authority, type="websocket", extensions=extensions)
    if answers:
        assert [message.get("status") for message in sent] == [401, None]
    else:
        closed = {"type": "websocket.close", "code": 1008, "reason": "sign_in_required"}
        assert sent == [closed]


@pytest.mark.parametrize("answers", [False, True])
async def test_a_handshake_that_needs_a_step_up_is_refused(authority: FakeAuthority, answers: bool):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        asgi.visit_of(scope).require(max_age=RECENT)
        raise AssertionError

    headers = [
        (name.lower().encode(), value.encode())
        for name, value in authority.sign_in("ada", age=2 * RECENT).items()
    ]
    more: dict[str, Any] = {"websocket.http.response": {}} if answers else {}
    scope: dict[str, Any] = {"type": "websocket", "headers": headers, "extensions": more}
    sent = await talk_asgi(app, authority, **scope)
    code = "insufficient_user_authentication"
    if answers:
        assert [message.get("status") for message in sent] == [401, None]
        assert code.encode() in sent[1]["body"]
    else:
        assert sent == [{"type": "websocket.close", "code": 1008, "reason": code}]


@pytest.mark.parametrize(("code", "seen"), [(1000, 1000), (4401, 4401), (1011, 1008), (4500, 1008)])
async def test_an_error_code_of_a_websocket_after_a_refusal_becomes_1008(
    authority: FakeAuthority, code: int, seen: int
):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        with suppress(Refused):
            asgi.visit_of(scope).require()
        await send({"type": "websocket.close", "code": code})

    _, closed = await talk_asgi(app, authority, type="websocket")
    assert closed["code"] == seen
