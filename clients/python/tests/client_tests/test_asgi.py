"""The middleware for ASGI: asyncio's own behaviour, hostile input, and other middleware."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware

from client_tests.middleware_harness import (
    HTTPS,
    PATIENCE,
    SignedIn,
    browser_of,
    fastapi_app,
    served_by,
    set_cookies,
    talk_asgi,
)
from session_authority_client import InvalidRequest
from session_authority_client._testing.service import FakeService
from session_authority_client.asgi import SessionAuthorityMiddleware, visit_of
from session_authority_client.flow import NoAnswer
from session_authority_client.starlette import require_session
from session_authority_client.testing import FakeAuthority


@pytest.fixture
async def browser(authority: FakeAuthority) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_of(fastapi_app(authority)) as browser:
        yield browser


async def test_cookies_are_sent_with_exactly_their_attributes(browser: httpx.AsyncClient):
    answer = await browser.post("/sign-in")
    token, device = answer.json()["token"], answer.json()["device"]
    strict = "Secure; HttpOnly; SameSite=Strict"
    cookies = set_cookies(answer)
    assert cookies["__Host-device"] == f"{device}; Path=/; Max-Age=34560000; {strict}"
    assert cookies["__Host-session"].startswith(f"{token}; Path=/; Max-Age=25919")
    assert cookies["__Host-session"].endswith(strict)
    out = await browser.post("/sign-out")
    assert set_cookies(out)["__Host-session"].startswith("; Path=/; Max-Age=0")


@pytest.mark.parametrize(
    "cookie",
    ["=", ";;;", "__Host-session", "__Host-session=\xff", "__Host-session=" + "a" * 60_000],
)
async def test_malformed_cookies_are_no_sign_in(browser: httpx.AsyncClient, cookie: str):
    answer = await browser.get("/me", headers={b"cookie": cookie.encode("latin-1")})
    assert (answer.status_code, set_cookies(answer)) == (401, {})


async def test_options_reaches_the_app_and_a_refused_head_has_no_body(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    assert (await browser.options("/me")).status_code == 405

    async def app(scope: Any, receive: Any, send: Any) -> None:
        visit_of(scope).require()

    start, body = await talk_asgi(app, authority, method="HEAD")
    assert [start["status"], body["body"]] == [401, b""]


HOSTILE: dict[str, list[tuple[bytes, bytes]]] = {
    "two tokens": [(b"cookie", b"__Host-session=a; __Host-session=b")],
    "two headers": [(b"cookie", b"__Host-session=a"), (b"cookie", b"__Host-session=b")],
    "100 kB": [(b"cookie", b"__Host-session=" + b"a" * 100_000)],
    "100 kB of names": [(b"cookie", b"__Host-session;" * 7000)],
    "100 kB of equals signs": [(b"cookie", b"__Host-session" + b"=" * 100_000)],
    "bytes": [(b"cookie", b"__Host-session=\xff\xfe\x00; __Host-device=\xe2\x80\xa8")],
    "a header in the token": [(b"cookie", b"__Host-session=a\r\nset-cookie: b=c")],
    "a header in the device ID": [
        (b"authorization", b"Bearer a\r\nb: c"),
        (b"x-device-id", b"a\r\nset-cookie: b=c"),
    ],
    "bytes in the bearer token": [(b"authorization", b"Bearer \xff"), (b"x-device-id", b"\xff")],
    "two device IDs": [(b"x-device-id", b"a"), (b"x-device-id", b"b")],
    "upper case": [(b"COOKIE", b"__HOST-SESSION=a")],
    "a name that is none": [(b"\xff\x00", b"\xff")],
    "a long user agent": [(b"user-agent", b"\xff" * 100_000)],
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "\r\n"])
async def test_hostile_headers_are_no_sign_in_and_cause_no_call(
    authority: FakeAuthority, name: str, method: str
):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        visit_of(scope).require()

    start, _ = await talk_asgi(app, authority, method=method, headers=HOSTILE[name])
    assert start["status"] == 401
    assert b"set-cookie" not in dict(start["headers"])
    assert authority.calls == {}  # no part of it could be a token


# --- renewals -------------------------------------------------------------------------------------


async def test_a_renewal_that_fails_after_the_app_ran_does_not_fail_the_request(
    authority: FakeAuthority,
):
    app = fastapi_app(authority)

    @app.get("/outage")
    async def outage(session: SignedIn) -> str:
        outages.append(authority.unavailable())
        outages[-1].__enter__()
        return session.user_id

    outages: list[Any] = []
    async with browser_of(app) as browser:
        await browser.post("/sign-in")
        authority.age_tokens()
        answer = await browser.get("/outage")
        assert (answer.json(), set_cookies(answer)) == ("ada", {})
        outages[-1].__exit__(None, None, None)
        assert set_cookies(await browser.get("/me"))


async def test_a_slow_app_leaves_renewing_to_the_next_request(
    authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch
):
    clock = [1000.0]
    monkeypatch.setattr("session_authority_client._async.admission.monotonic", lambda: clock[0])
    app = fastapi_app(authority)

    @app.get("/slow")
    async def slow(session: SignedIn, seconds: float) -> None:
        clock[0] += seconds

    async with browser_of(app) as browser:
        await browser.post("/sign-in")
        authority.age_tokens()
        # Another request may have renewed in that time, and this token would soon count as stolen.
        assert set_cookies(await browser.get("/slow", params={"seconds": 11})) == {}
        assert authority.calls["RenewSession"] == 0
        assert len(set_cookies(await browser.get("/slow", params={"seconds": 9}))) == 2


async def test_a_late_response_does_not_undo_the_sign_in_of_another_user(
    authority: FakeAuthority,
):
    app = fastapi_app(authority)
    begun, go_on = asyncio.Event(), asyncio.Event()

    @app.get("/late")
    async def late(session: SignedIn) -> str:
        begun.set()
        await go_on.wait()
        return session.user_id

    async with browser_of(app) as browser:
        await browser.post("/sign-in", params={"user": "ada"})
        authority.age_tokens()
        waiting = asyncio.create_task(browser.get("/late"))
        await begun.wait()
        await browser.post("/sign-in", params={"user": "bob"})
        go_on.set()
        answer = await waiting
        assert (answer.json(), set_cookies(answer)) == ("ada", {})
        assert (await browser.get("/me")).json() == "bob"


async def test_a_thousand_parallel_requests_renew_once(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    authority.expire_tokens()
    answers = await asyncio.gather(*(browser.get("/me") for _ in range(1000)))
    assert {answer.status_code for answer in answers} == {200}
    assert authority.rotations == 1
    assert authority.calls["RenewSession"] < 100
    assert (await browser.get("/me")).json() == "ada"


class SlowService(FakeService):
    """A service that decides renewals at once but answers them much later."""

    def __init__(self) -> None:
        super().__init__(timedelta(hours=1))
        self.stuck = False
        self.decided = threading.Event()
        self.questions = threading.Semaphore(0)

    def validate_session(self, request: Any, context: Any) -> Any:
        self.questions.release()
        return super().validate_session(request, context)

    def renew_session(self, request: Any, context: Any) -> Any:
        answer = super().renew_session(request, context)
        self.decided.set()
        assert self.changed.wait_for(lambda: not self.stuck, PATIENCE.total_seconds())
        return answer

    def go_on(self) -> None:
        with self.changed:
            self.stuck = False
            self.changed.notify_all()


async def test_a_request_does_not_share_a_renewal_that_was_sent_before_it():
    service = SlowService()
    with served_by(service) as authority:
        async with (
            browser_of(fastapi_app(authority)) as browser,
            authority.async_client(timeout=PATIENCE) as client,
        ):
            await browser.post("/sign-in")
            authority.expire_tokens()
            service.stuck = True
            before = asyncio.create_task(browser.get("/me"))
            assert await asyncio.to_thread(service.decided.wait, PATIENCE.total_seconds())
            await client.revoke_all("ada")
            after = asyncio.create_task(browser.get("/me"))
            for _ in range(2):
                assert await asyncio.to_thread(
                    service.questions.acquire, timeout=PATIENCE.total_seconds()
                )
            service.go_on()
            # the service decided this renewal before the sign-out
            assert (await before).status_code == 200
            assert (await after).status_code == 401


# --- the app and other middleware -----------------------------------------------------------------


async def test_errors_of_the_app_pass_through_the_middleware(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    with pytest.raises(InvalidRequest):
        await browser.post("/sign-in", params={"user": " "})

    async def fault(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await talk_asgi(fault, authority)


async def test_an_app_may_replace_the_answer_to_a_refusal(authority: FakeAuthority):
    app = fastapi_app(authority)

    @app.exception_handler(NoAnswer)
    async def sorry(request: Request, refused: NoAnswer) -> Response:
        return Response("sorry", refused.answer.status, {"Retry-After": "7"})

    async with browser_of(app) as browser:
        await browser.post("/sign-in")
        with authority.unavailable():
            answer = await browser.get("/me")
        assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (
            503,
            "sorry",
            "7",
        )


async def test_a_refusal_passes_through_other_middleware(authority: FakeAuthority):
    app = FastAPI()

    class Between(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            answer: Response = await call_next(request)
            return answer

    @app.get("/me", dependencies=[Depends(require_session)])
    async def me() -> None:
        return None

    app.add_middleware(Between)
    app.add_middleware(SessionAuthorityMiddleware, authority=authority.async_client)
    async with browser_of(app) as browser:
        assert (await browser.get("/me")).status_code == 401


async def test_scopes_of_unknown_types_reach_the_app(authority: FakeAuthority):
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    assert await talk_asgi(app, authority, type="new") == []
    assert seen == ["new"]


def test_each_event_loop_has_a_client_of_its_own(authority: FakeAuthority):
    app, cookies = fastapi_app(authority), httpx.Cookies()

    async def request(method: str, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url=HTTPS, cookies=cookies
        ) as browser:
            answer = await browser.request(method, path)
            cookies.update(browser.cookies)
            return answer

    assert asyncio.run(request("POST", "/sign-in")).status_code == 200
    authority.expire_tokens()
    assert asyncio.run(request("GET", "/me")).json() == "ada"
    assert asyncio.run(request("GET", "/me")).json() == "ada"
    assert authority.rotations == 1


async def test_state_that_the_app_sets_reaches_the_middleware_around_it(authority: FakeAuthority):
    app = fastapi_app(authority)
    noted: list[object] = []

    @app.get("/notes/{name}")
    async def note(request: Request, name: str) -> None:
        request.state.noted = name

    async def look(request: Request, call_next: Any) -> Response:
        request.state.begun = True
        response: Response = await call_next(request)
        noted.extend((request.state.noted, request.scope["route"].path, request.path_params))
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=look)
    async with browser_of(app) as browser:
        assert (await browser.get("/notes/one")).status_code == 200
    assert noted == ["one", "/notes/{name}", {"name": "one"}]


async def test_a_visit_without_the_middleware_raises_an_error_that_says_so(
    authority: FakeAuthority,
):
    with pytest.raises(RuntimeError, match="not around this app"):
        visit_of({"type": "http"})
