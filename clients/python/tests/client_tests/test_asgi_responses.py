"""The middleware for ASGI: responses, streams, WebSockets and late refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.websockets import WebSocket

from client_tests.middleware_harness import (
    HTTPS,
    PATIENCE,
    SignedIn,
    Visit,
    browser_of,
    fastapi_app,
    serve_asgi,
    set_cookies,
    talk_asgi,
)
from session_authority_client.asgi import SessionAuthorityMiddleware, visit_of
from session_authority_client.flow import SignInRequired
from session_authority_client.starlette import require_session
from session_authority_client.testing import FakeAuthority


@pytest.fixture
async def browser(authority: FakeAuthority) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_of(fastapi_app(authority)) as browser:
        yield browser


async def test_a_streamed_response_sets_cookies_and_refuses_a_later_sign_in(
    authority: FakeAuthority,
):
    app = fastapi_app(authority)

    @app.get("/stream")
    async def stream(visit: Visit) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            with pytest.raises(RuntimeError, match="headers are out"):
                await visit.sign_in("eve")
            yield b"two"

        return StreamingResponse(body())

    async with browser_of(app) as browser:
        await browser.post("/sign-in")
        authority.age_tokens()
        answer = await browser.get("/stream")
    assert answer.text == "onetwo"
    assert len(set_cookies(answer)) == 2


async def test_the_apps_own_cookies_are_kept(authority: FakeAuthority):
    app = fastapi_app(authority)

    @app.get("/two-cookies")
    async def two_cookies(response: Response, visit: Visit) -> None:
        await visit.sign_in("ada")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")

    async with browser_of(app) as browser:
        answer = await browser.get("/two-cookies")
        assert set(set_cookies(answer)) == {"a", "b", "__Host-session", "__Host-device"}
        again = await browser.get("/two-cookies")
    parsed = SimpleCookie(again.headers.get_list("set-cookie")[-1])
    assert parsed["__Host-device"]["samesite"] == "Strict"


async def test_a_cookie_of_the_app_with_a_name_of_the_middleware_is_left_out(
    authority: FakeAuthority, caplog: pytest.LogCaptureFixture
):
    app = fastapi_app(authority)

    @app.get("/clash")
    async def clash(response: Response, visit: Visit, signing_in: bool) -> None:
        if signing_in:
            await visit.sign_in("ada")
        for name in ("__Host-session", "__Host-device", "session", "x__Host-session"):
            response.set_cookie(name, "of-the-app")

    async with browser_of(app) as browser:
        await browser.post("/sign-in")
        answer = await browser.get("/clash", params={"signing_in": False})
        assert set(set_cookies(answer)) == {"session", "x__Host-session"}
        assert (await browser.get("/me")).json() == "ada"
        assert "named __Host-device, which is the Session Authority's" in caplog.text
        assert "of-the-app" not in caplog.text
        answer = await browser.get("/clash", params={"signing_in": True})
        lines = answer.headers.get_list("set-cookie")
        assert sorted(line.partition("=")[0] for line in lines) == [
            *("__Host-device", "__Host-session", "session", "x__Host-session")
        ]
        assert (await browser.get("/me")).json() == "ada"


async def test_a_stream_goes_on_after_a_sign_out_but_the_next_request_is_refused(
    authority: FakeAuthority,
):
    app = fastapi_app(authority)
    began, proceed = asyncio.Event(), asyncio.Event()

    @app.get("/long")
    async def long(session: SignedIn) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            began.set()
            await proceed.wait()
            yield b"two"

        return StreamingResponse(body())

    async with browser_of(app) as browser, authority.async_client(timeout=PATIENCE) as client:
        await browser.post("/sign-in")
        under_way = asyncio.create_task(browser.get("/long"))
        await began.wait()
        await client.revoke_all("ada")
        proceed.set()
        assert (await under_way).text == "onetwo"
        assert (await browser.get("/long")).status_code == 401


async def test_a_client_that_goes_away_leaves_nothing_behind(authority: FakeAuthority):
    """The client leaves while headers wait, while a renewal runs, or while contents are sent."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(
            {
                "type": "http.response.body",
                "body": visit_of(scope).require().user_id.encode(),
                "more_body": True,
            }
        )
        await send({"type": "http.response.body", "body": b"!"})

    async with authority.async_client(timeout=PATIENCE) as client:
        issued = await client.issue_device("ada")
        cookie = f"__Host-session={issued.access_token}; __Host-device={issued.device.device_id}"
        headers = [(b"cookie", cookie.encode())]
        for patience in range(3):
            sent: list[Any] = []

            async def send(message: Any, sent: list[Any] = sent, patience: int = patience) -> None:
                if len(sent) == patience:
                    raise OSError("it went away")
                sent.append(message)

            with pytest.raises(OSError, match="went away"):
                await serve_asgi(app, client, send, headers=headers)
        authority.expire_tokens()
        with authority.slow(PATIENCE):
            task = asyncio.create_task(serve_asgi(app, client, send, headers=headers))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        said: list[Any] = []

        async def hear(message: Any) -> None:
            said.append(message)

        await serve_asgi(app, client, hear, headers=headers)
        assert [message.get("body") for message in said] == [None, b"ada", b"!"]
        assert len([name for name, _ in said[0]["headers"] if name == b"set-cookie"]) == 2


async def test_an_error_after_a_sign_in_sends_no_cookies(authority: FakeAuthority):
    app = fastapi_app(authority)

    @app.post("/sign-in-and-fail")
    async def sign_in_and_fail(visit: Visit) -> None:
        await visit.sign_in("ada")
        raise ZeroDivisionError

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=HTTPS) as browser:
        answer = await browser.post("/sign-in-and-fail")
        assert (answer.status_code, set_cookies(answer)) == (500, {})
        assert (await browser.get("/me")).status_code == 401


# --- WebSockets -----------------------------------------------------------------------------------


async def connect(app: Any, authority: FakeAuthority, cookie: str, **scope: Any) -> list[Any]:
    """Connects a WebSocket to an app. Returns the messages to the client."""
    sent: list[Any] = []
    headers = [(b"host", b"app.example"), (b"cookie", cookie.encode())]

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async with authority.async_client(timeout=PATIENCE) as client:
        middleware = SessionAuthorityMiddleware(app, client)
        found = {"type": "websocket", "path": "/", "headers": headers, **scope}
        await middleware(found, receive, send)
    return sent


async def greet(scope: Any, receive: Any, send: Any) -> None:
    socket = WebSocket(scope, receive, send)
    session = await require_session(socket)
    await socket.accept(headers=[(b"x-app", b"1")])
    await socket.send_text(session.user_id)


async def test_a_websocket_is_checked_when_it_connects(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)
    accepted, greeting = await connect(greet, authority, cookie)
    assert (accepted["headers"], greeting["text"]) == ([(b"x-app", b"1")], "ada")
    authority.age_tokens()
    accepted, _ = await connect(greet, authority, cookie)
    assert [name for name, _ in accepted["headers"]].count(b"set-cookie") == 2

    assert await connect(greet, authority, "") == [
        {"type": "websocket.close", "code": 1008, "reason": "sign_in_required"}
    ]
    start, body = await connect(greet, authority, "", extensions={"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert body == {
        "type": "websocket.http.response.body",
        "body": b'{"error": "sign_in_required"}',
    }


async def test_a_websocket_that_is_refused_after_it_was_accepted_is_closed(
    authority: FakeAuthority,
):
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        visit_of(scope).require()

    accepted, closed = await connect(
        late, authority, "", extensions={"websocket.http.response": {}}
    )
    assert (accepted["type"], closed["type"], closed["code"]) == (
        "websocket.accept",
        "websocket.close",
        1008,
    )


# --- late refusals --------------------------------------------------------------------------------


async def test_a_refusal_after_the_headers_breaks_the_response_off(authority: FakeAuthority):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        visit_of(scope).require()

    async with authority.async_client() as client:
        transport = httpx.ASGITransport(app=SessionAuthorityMiddleware(app, client))
        async with httpx.AsyncClient(transport=transport, base_url=HTTPS) as browser:
            with pytest.raises(SignInRequired):
                await browser.get("/")


async def test_a_refusal_before_the_contents_replaces_the_response(
    authority: FakeAuthority,
):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"x-app", b"1"), (b"etag", b"1")],
            }
        )
        visit_of(scope).require()

    start, body = await talk_asgi(app, authority)
    assert (start["status"], body["body"]) == (401, b'{"error": "sign_in_required"}')
    assert not {b"x-app", b"etag"} & {name for name, _ in start["headers"]}
    start, body = await talk_asgi(app, authority, method="HEAD")
    assert (start["status"], body["body"]) == (401, b"")


async def test_a_stream_that_refuses_before_its_first_part_is_answered_with_401(
    authority: FakeAuthority,
):
    app = FastAPI()

    class Between(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            answer: Response = await call_next(request)
            return answer

    @app.get("/stream")
    async def stream(visit: Visit) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield visit.require().user_id.encode()

        return StreamingResponse(body())

    app.add_middleware(SessionAuthorityMiddleware, authority=authority.async_client)
    async with browser_of(app) as browser:
        assert (await browser.get("/stream")).status_code == 401


async def test_headers_wait_for_the_first_part_of_the_body_but_not_in_an_event_stream(
    authority: FakeAuthority,
):
    seen: list[int] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": scope["said"]})
        seen.append(len(sent))
        for body in (b"one", b"two"):
            await send({"type": "http.response.body", "body": body, "more_body": True})
            seen.append(len(sent))

    async def send(message: Any) -> None:
        sent.append(message)

    async with authority.async_client() as client:
        for said, expected in (
            ([], [0, 2, 3]),
            ([(b"Content-Type", b"text/event-stream; x")], [1, 2, 3]),
        ):
            await serve_asgi(app, client, send, said=said)
            assert seen == expected
            seen.clear()
            sent.clear()


async def test_headers_of_a_response_without_a_body_are_sent_at_the_end(authority: FakeAuthority):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    (start,) = await talk_asgi(app, authority)
    assert start["status"] == 204


async def test_a_fault_before_the_first_part_of_the_body_is_left_to_the_server(
    authority: FakeAuthority,
):
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    async def send(message: Any) -> None:
        sent.append(message)

    async with authority.async_client() as client:
        with pytest.raises(ZeroDivisionError):
            await serve_asgi(app, client, send)
    assert sent == []
