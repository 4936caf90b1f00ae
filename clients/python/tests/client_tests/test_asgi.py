"""The middleware for ASGI, around apps of FastAPI, Starlette and none, before the double of the
service.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Annotated, Any

import grpc
import httpx
import pytest
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.websockets import WebSocket

from session_authority_client import InvalidRequest, Session
from session_authority_client._async.visit import AsyncVisit
from session_authority_client._testing.messages import abort
from session_authority_client._testing.service import FakeService
from session_authority_client.asgi import SessionAuthorityMiddleware, visit_of
from session_authority_client.cookies import Cookies, SameSite
from session_authority_client.flow import Flow, NoAnswer, SignInRequired
from session_authority_client.starlette import require_session
from session_authority_client.starlette import visit_of as visit_dependency
from session_authority_client.testing import FakeAuthority

PATIENCE = timedelta(seconds=20)
Visit = Annotated[AsyncVisit, Depends(visit_dependency)]
SignedIn = Annotated[Session, Depends(require_session)]


def app_for(
    authority: FakeAuthority, flow: Flow | None = None, timeout: timedelta = PATIENCE
) -> FastAPI:
    app = FastAPI()

    @app.post("/sign-in")
    async def sign_in(visit: Visit, user: str = "ada") -> dict[str, str]:
        issued = await visit.sign_in(user, auth_methods=["pwd"])
        assert visit.require().user_id == user
        return {"token": issued.access_token, "device": issued.device.device_id}

    @app.post("/sign-out")
    async def sign_out(visit: Visit, device: str | None = None) -> None:
        await visit.sign_out(device)

    @app.post("/sign-out-everywhere")
    async def sign_out_everywhere(visit: Visit, also_here: bool = False) -> int:
        return await visit.sign_out_everywhere(except_current=not also_here)

    @app.post("/renew")
    async def renew(visit: Visit) -> dict[str, str | None]:
        return {"token": (await visit.renew()).access_token}

    @app.get("/devices")
    async def devices(visit: Visit) -> list[dict[str, Any]]:
        return [
            {"id": device.device_id, "current": device.current} for device in await visit.devices()
        ]

    @app.get("/me")
    async def me(session: SignedIn) -> str:
        return session.user_id

    @app.get("/maybe")
    async def maybe(request: Request) -> str | None:
        session = request.state.visit.session
        return session.user_id if session else None

    @app.get("/static")
    async def static(visit: Visit) -> Response:
        return Response("same for all", headers={"Cache-Control": "public, max-age=600"})

    @app.get("/stream")
    async def stream(visit: Visit) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            with pytest.raises(RuntimeError, match="headers are out"):
                await visit.sign_in("eve")
            yield b"two"

        return StreamingResponse(body())

    @app.get("/two-cookies")
    async def two_cookies(response: Response, visit: Visit) -> None:
        await visit.sign_in("ada")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")

    @app.get("/fault")
    async def fault(visit: Visit) -> None:
        raise ZeroDivisionError

    app.add_middleware(
        SessionAuthorityMiddleware,
        authority=lambda: authority.async_client(timeout=timeout),
        flow=flow or Flow(),
    )
    return app


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    with FakeAuthority() as authority:
        yield authority


@asynccontextmanager
async def browser_of(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that keeps cookies, at an app whose lifespan runs."""
    started, stop = asyncio.Event(), asyncio.Event()
    messages = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))

    async def receive() -> Any:
        if started.is_set():
            await stop.wait()
        return next(messages)

    async def send(message: Any) -> None:
        started.set()

    lifespan = asyncio.create_task(
        app({"type": "lifespan", "state": {}, "asgi": {}}, receive, send)
    )
    await started.wait()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="https://app.example"
    ) as browser:
        yield browser
    stop.set()
    await lifespan


@pytest.fixture
async def browser(authority: FakeAuthority) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_of(app_for(authority)) as browser:
        yield browser


def set_cookies(response: httpx.Response) -> dict[str, str]:
    """What a response sets, by name."""
    lines = response.headers.get_list("set-cookie")
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


# --- who it is ------------------------------------------------------------------------------------


async def test_a_stranger_is_nobody_and_gets_no_cookies(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    answer = await browser.get("/maybe")
    assert (answer.json(), set_cookies(answer)) == (None, {})
    denied = await browser.get("/me")
    assert (denied.status_code, denied.json()) == (401, {"error": "sign_in_required"})
    assert (denied.headers["www-authenticate"], denied.headers["cache-control"]) == (
        "Bearer",
        "no-store",
    )
    assert set_cookies(denied) == {}
    assert authority.calls == {}  # without a token nobody is asked


async def test_a_sign_in_sets_both_cookies_and_the_next_request_is_signed_in(
    browser: httpx.AsyncClient,
):
    answer = await browser.post("/sign-in")
    token, device = answer.json()["token"], answer.json()["device"]
    strict = "Secure; HttpOnly; SameSite=Strict"
    cookies = set_cookies(answer)
    assert cookies["__Host-device"] == f"{device}; Path=/; Max-Age=34560000; {strict}"
    assert cookies["__Host-session"].startswith(f"{token}; Path=/; Max-Age=25919")
    assert cookies["__Host-session"].endswith(strict)
    assert answer.headers["cache-control"] == "no-store"
    again = await browser.get("/me")
    assert (again.json(), set_cookies(again)) == ("ada", {})


async def test_a_browser_stays_the_same_device(browser: httpx.AsyncClient):
    device = (await browser.post("/sign-in")).json()["device"]
    out = await browser.post("/sign-out")
    assert set(set_cookies(out)) == {"__Host-session"}
    assert (await browser.get("/me")).status_code == 401
    assert (await browser.post("/sign-in")).json()["device"] == device


async def test_the_client_is_told_of(authority: FakeAuthority):
    flow = Flow(trusted_proxies=("127.0.0.1",))
    async with browser_of(app_for(authority, flow)) as browser:
        headers = {"user-agent": "Firefox", "x-forwarded-for": "203.0.113.7"}
        await browser.post("/sign-in", headers=headers)
    with authority.client(timeout=PATIENCE) as client:
        (device,) = client.devices("ada")
    assert (device.last_client.user_agent, device.last_client.ip_address) == (
        "Firefox",
        "203.0.113.7",
    )


@pytest.mark.parametrize(
    "cookie",
    ["=", ";;;", "__Host-session", "__Host-session=\xff", "__Host-session=" + "a" * 60_000],
)
async def test_malformed_cookies_are_no_sign_in(browser: httpx.AsyncClient, cookie: str):
    answer = await browser.get("/me", headers={b"cookie": cookie.encode("latin-1")})
    assert (answer.status_code, set_cookies(answer)) == (401, {})


async def test_lax_cookies_and_redirects_if_the_app_asks(authority: FakeAuthority):
    flow = Flow(Cookies(same_site=SameSite.LAX), sign_in_url="/sign-in")
    async with browser_of(app_for(authority, flow)) as browser:
        answer = await browser.get("/me")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        assert (await browser.get("/me", headers={"x-device-id": ""})).status_code == 401
        assert set_cookies(await browser.post("/sign-in"))["__Host-session"].endswith(
            "SameSite=Lax"
        )


async def test_head_and_options(authority: FakeAuthority, browser: httpx.AsyncClient):
    assert (await browser.options("/me")).status_code == 405
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        visit_of(scope).require()

    async with authority.async_client() as client:
        scope = {"type": "http", "method": "HEAD", "path": "/", "headers": []}
        await SessionAuthorityMiddleware(app, client)(scope, None, send)  # type: ignore[arg-type]
    assert [sent[0]["status"], sent[1]["body"]] == [401, b""]


# --- renewing -------------------------------------------------------------------------------------


async def test_an_expired_token_is_renewed_before_the_app(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    device = (await browser.post("/sign-in")).json()["device"]
    authority.expire_tokens()
    answer = await browser.get("/me")
    assert answer.json() == "ada"
    assert set(set_cookies(answer)) == {"__Host-session", "__Host-device"}
    assert set_cookies(answer)["__Host-device"].startswith(device)
    assert set_cookies(await browser.get("/me")) == {}
    assert authority.rotations == 1


async def test_an_old_token_is_renewed_when_the_headers_go_out(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    authority.age_tokens()
    answer = await browser.get("/static")
    assert set(set_cookies(answer)) == {"__Host-session", "__Host-device"}
    assert answer.headers.get_list("cache-control") == [
        "no-store"
    ]  # a token for one is not for a cache
    answer = await browser.get("/static")
    assert (set_cookies(answer), answer.headers["cache-control"]) == ({}, "public, max-age=600")


async def test_a_renewal_that_fails_late_costs_nothing(authority: FakeAuthority):
    app = app_for(authority)

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
    monkeypatch.setattr("session_authority_client._async.visit.monotonic", lambda: clock[0])
    app = app_for(authority)

    @app.get("/slow")
    async def slow(session: SignedIn, seconds: float) -> None:
        clock[0] += seconds

    async with browser_of(app) as browser:
        await browser.post("/sign-in")
        authority.age_tokens()
        # Others have renewed since, and this token is about to look stolen.
        assert set_cookies(await browser.get("/slow", params={"seconds": 11})) == {}
        assert authority.calls["RenewSession"] == 0
        assert len(set_cookies(await browser.get("/slow", params={"seconds": 9}))) == 2


async def test_a_sign_in_is_not_undone_by_a_renewal(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    authority.age_tokens()
    answer = await browser.post("/sign-in")
    assert set_cookies(answer)["__Host-session"].startswith(answer.json()["token"])
    authority.age_tokens()
    out = await browser.post("/sign-out")
    assert set_cookies(out)["__Host-session"].startswith("; Path=/; Max-Age=0")
    assert authority.rotations == 0


async def test_another_user_takes_a_browser_over_and_no_late_response_gives_it_back(
    authority: FakeAuthority,
):
    app = app_for(authority)
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


async def test_another_user_ends_the_session_before_in_this_browser_only(authority: FakeAuthority):
    app = app_for(authority)
    async with browser_of(app) as browser, browser_of(app) as phone:
        await phone.post("/sign-in", params={"user": "ada"})
        before = (await browser.post("/sign-in", params={"user": "ada"})).json()
        old = {"authorization": f"Bearer {before['token']}", "x-device-id": before["device"]}
        await browser.post("/sign-in", params={"user": "bob"})
        async with browser_of(app) as thief:
            assert (await thief.get("/me", headers=old)).status_code == 401
        assert ((await phone.get("/me")).json(), (await browser.get("/me")).json()) == (
            "ada",
            "bob",
        )
        # An app keeps the tokens of several users itself.
        headers = authority.sign_in("carol")
        async with browser_of(app) as client:
            await client.post("/sign-in", params={"user": "dan"}, headers=headers)
            assert (await client.get("/me", headers=headers)).json() == "carol"


async def test_another_user_is_signed_in_though_the_one_before_can_not_be_signed_out(
    caplog: pytest.LogCaptureFixture,
):
    class Strict(FakeService):
        def revoke_device(self, request: Any, context: Any) -> Any:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    with served_by(Strict(timedelta(hours=1))) as authority:
        async with browser_of(app_for(authority)) as browser:
            await browser.post("/sign-in", params={"user": "ada"})
            assert (await browser.post("/sign-in", params={"user": "bob"})).status_code == 200
            assert (await browser.get("/me")).json() == "bob"
    assert "is not signed out there: PERMISSION_DENIED" in caplog.text


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


# --- what is denied -------------------------------------------------------------------------------


async def test_a_replay_takes_the_cookies_back(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    authority.replay_tokens()
    answer = await browser.get("/me")
    assert (answer.status_code, answer.json()) == (401, {"error": "sign_in_required"})
    assert set(set_cookies(answer)) == {"__Host-session", "__Host-device"}
    assert all("Max-Age=0;" in line for line in set_cookies(answer).values())
    assert not browser.cookies


async def test_a_replay_that_the_renewal_finds_does_so_too(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    authority.expire_tokens()
    authority.replay_tokens()
    answer = await browser.get("/maybe")
    assert (answer.json(), len(set_cookies(answer))) == (None, 2)


async def test_an_old_request_does_not_wipe_a_fresh_sign_in(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    old = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)
    await browser.post("/sign-in")
    answer = await browser.get("/me", headers={"cookie": old})
    assert (answer.status_code, set_cookies(answer)) == (401, {})
    assert (await browser.get("/me")).json() == "ada"


async def test_a_lost_device_cookie_is_no_alarm(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    token = (await browser.post("/sign-in")).json()["token"]
    answer = await browser.get("/me", headers={"cookie": f"__Host-session={token}"})
    assert (answer.status_code, set_cookies(answer)) == (401, {})
    assert (await browser.get("/me")).json() == "ada"


# --- when the authority is away -------------------------------------------------------------------


async def test_it_fails_closed_and_recovers(authority: FakeAuthority, browser: httpx.AsyncClient):
    await browser.post("/sign-in")
    with authority.unavailable():
        for path in ("/me", "/maybe"):  # "nobody is signed in" would be a lie
            answer = await browser.get(path, headers={"accept": "application/json"})
            assert (answer.status_code, answer.json()) == (503, {"error": "unavailable"})
            assert (answer.headers["retry-after"], set_cookies(answer)) == ("1", {})
            page = await browser.get(path, headers={"accept": "text/html"})
            assert (page.status_code, page.headers["content-type"]) == (
                503,
                "text/html; charset=utf-8",
            )
            assert (page.headers["retry-after"], set_cookies(page)) == ("1", {})
        for path in ("/sign-in", "/sign-out", "/sign-out-everywhere", "/renew"):
            assert (await browser.post(path)).status_code == 503
        assert (await browser.get("/static")).status_code == 200  # needs no session
    assert (await browser.get("/me")).json() == "ada"


async def test_it_answers_within_its_deadline(authority: FakeAuthority):
    async with browser_of(app_for(authority, timeout=timedelta(milliseconds=100))) as browser:
        with authority.client(timeout=PATIENCE) as client:
            issued = client.issue_device("ada")
        browser.cookies.set("__Host-session", issued.access_token)
        browser.cookies.set("__Host-device", issued.device.device_id)
        with authority._service.changed:  # it answers nobody
            async with asyncio.timeout(PATIENCE.total_seconds()):
                assert (await browser.get("/me")).status_code == 503


def served_by(service: FakeService) -> FakeAuthority:
    """The double with methods of a test's own."""
    authority = FakeAuthority()
    authority._service = service
    return authority


class StumblingService(FakeService):
    """One whose next renewals are away, or decided long before they are answered."""

    def __init__(self) -> None:
        super().__init__(timedelta(hours=1))
        self.renewals_away = False
        self.stuck = False
        self.decided = threading.Event()
        self.questions = threading.Semaphore(0)

    def validate_session(self, request: Any, context: Any) -> Any:
        self.questions.release()
        return super().validate_session(request, context)

    def renew_session(self, request: Any, context: Any) -> Any:
        if self.renewals_away:
            abort(context, grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        answer = super().renew_session(request, context)
        self.decided.set()
        assert self.changed.wait_for(lambda: not self.stuck, PATIENCE.total_seconds())
        return answer

    def go_on(self) -> None:
        with self.changed:
            self.stuck = False
            self.changed.notify_all()


async def test_an_outage_while_an_expired_token_is_renewed_is_no_sign_out():
    service = StumblingService()
    with served_by(service) as authority:
        async with browser_of(app_for(authority)) as browser:
            await browser.post("/sign-in")
            authority.expire_tokens()
            service.renewals_away = True
            answer = await browser.get("/me")
            assert (answer.status_code, set_cookies(answer)) == (503, {})
            service.renewals_away = False
            assert (await browser.get("/me")).json() == "ada"


async def test_a_service_that_refuses_this_app_is_as_good_as_away(caplog: pytest.LogCaptureFixture):
    class Strict(FakeService):
        def validate_session(self, request: Any, context: Any) -> Any:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    with served_by(Strict(timedelta(hours=1))) as authority:
        async with browser_of(app_for(authority)) as browser:
            await browser.post("/sign-in")
            answer = await browser.get("/me")
            assert (answer.status_code, set_cookies(answer)) == (503, {})
    assert "refuses to say who is signed in: PERMISSION_DENIED" in caplog.text


async def test_faults_of_the_app_are_its_own(browser: httpx.AsyncClient):
    with pytest.raises(ZeroDivisionError):
        await browser.get("/fault")
    with pytest.raises(InvalidRequest):
        await browser.post("/sign-in", params={"user": " "})


# --- responses ------------------------------------------------------------------------------------


async def test_a_streamed_response_has_its_cookies_and_none_later(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    await browser.post("/sign-in")
    authority.age_tokens()
    answer = await browser.get("/stream")
    assert answer.text == "onetwo"
    assert len(set_cookies(answer)) == 2


async def test_the_apps_own_cookies_are_kept(browser: httpx.AsyncClient):
    assert set(set_cookies(await browser.get("/two-cookies"))) == {
        "a",
        "b",
        "__Host-session",
        "__Host-device",
    }
    parsed = SimpleCookie((await browser.get("/two-cookies")).headers.get_list("set-cookie")[-1])
    assert parsed["__Host-device"]["samesite"] == "Strict"


async def test_a_cookie_of_the_apps_with_a_name_of_ours_is_left_out(
    authority: FakeAuthority, caplog: pytest.LogCaptureFixture
):
    app = app_for(authority)

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


async def test_a_stream_goes_on_after_a_sign_out_and_the_next_request_does_not(
    authority: FakeAuthority,
):
    app = app_for(authority)
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
    """While the headers wait, while a renewal is under way, and while the contents go out."""

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
        cookie = f"__Host-session={issued.access_token}; __Host-device={issued.device.device_id}".encode()
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"cookie", cookie)]}
        middleware = SessionAuthorityMiddleware(app, client)
        for patience in range(3):
            sent: list[Any] = []

            async def send(message: Any, sent: list[Any] = sent, patience: int = patience) -> None:
                if len(sent) == patience:
                    raise OSError("it went away")
                sent.append(message)

            with pytest.raises(OSError, match="went away"):
                await middleware(dict(scope), None, send)  # type: ignore[arg-type]
        authority.expire_tokens()
        with authority.slow(PATIENCE):
            task = asyncio.create_task(middleware(dict(scope), None, send))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        said: list[Any] = []

        async def hear(message: Any) -> None:
            said.append(message)

        await middleware(dict(scope), None, hear)  # type: ignore[arg-type]
        assert [message.get("body") for message in said] == [None, b"ada", b"!"]
        assert len([name for name, _ in said[0]["headers"] if name == b"set-cookie"]) == 2


async def test_a_fault_after_a_sign_in_hands_nothing_out(authority: FakeAuthority):
    app = app_for(authority)

    @app.post("/sign-in-and-fail")
    async def sign_in_and_fail(visit: Visit) -> None:
        await visit.sign_in("ada")
        raise ZeroDivisionError

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://app.example") as browser:
        answer = await browser.post("/sign-in-and-fail")
        assert (answer.status_code, set_cookies(answer)) == (500, {})
        assert (await browser.get("/me")).status_code == 401


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
async def test_whatever_is_sent_is_a_stranger(authority: FakeAuthority, name: str, method: str):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        visit_of(scope).require()

    start, _ = await talk(app, authority, method, headers=HOSTILE[name])
    assert start["status"] == 401
    assert b"set-cookie" not in dict(start["headers"])
    assert authority.calls == {}  # nothing of it could be a token


# --- my devices -----------------------------------------------------------------------------------


async def test_my_devices(authority: FakeAuthority, browser: httpx.AsyncClient):
    async with browser_of(app_for(authority)) as other, browser_of(app_for(authority)) as third:
        mine, theirs = [(await one.post("/sign-in")).json()["device"] for one in (browser, other)]
        await third.post("/sign-in")
        listed = (await browser.get("/devices")).json()
        assert [device["id"] for device in listed if device["current"]] == [mine]
        assert len(listed) == 3
        answer = await browser.post("/sign-out", params={"device": theirs})
        assert set_cookies(answer) == {}
        assert (await other.get("/me")).status_code == 401
        assert set_cookies(await browser.post("/sign-out", params={"device": "nonsense"})) == {}
        assert (await browser.post("/sign-out-everywhere")).json() == 1
        assert [(await one.get("/me")).status_code for one in (browser, third)] == [200, 401]
        answer = await browser.post("/sign-out-everywhere", params={"also_here": True})
        assert (answer.json(), set(set_cookies(answer))) == (1, {"__Host-session"})
        assert (await browser.get("/devices")).status_code == 401


async def test_nobody_signs_others_out(authority: FakeAuthority, browser: httpx.AsyncClient):
    async with browser_of(app_for(authority)) as other:
        theirs = (await other.post("/sign-in", params={"user": "eve"})).json()["device"]
        await browser.post("/sign-in")
        await browser.post("/sign-out", params={"device": theirs})
        assert (await other.get("/me")).json() == "eve"


# --- apps with bearer tokens ----------------------------------------------------------------------


async def test_an_app_keeps_its_token_itself(authority: FakeAuthority, browser: httpx.AsyncClient):
    signed_in = await browser.post("/sign-in", headers={"x-device-id": ""})
    assert set_cookies(signed_in) == {}
    headers = {
        "authorization": f"Bearer {signed_in.json()['token']}",
        "x-device-id": signed_in.json()["device"],
    }
    assert (await browser.get("/me", headers=headers)).json() == "ada"
    assert (await browser.post("/renew", headers=headers)).json() == {"token": None}
    authority.age_tokens()
    assert (await browser.get("/me", headers=headers)).json() == "ada"
    assert authority.rotations == 0  # nobody could tell it of another token
    authority.expire_tokens()
    answer = await browser.get("/me", headers=headers)
    assert (answer.status_code, answer.json(), set_cookies(answer)) == (
        401,
        {"error": "token_expired"},
        {},
    )
    renewed = await browser.post("/renew", headers=headers)
    assert set_cookies(renewed) == {}
    headers["authorization"] = f"Bearer {renewed.json()['token']}"
    assert (await browser.get("/me", headers=headers)).json() == "ada"
    assert (await browser.post("/sign-out", headers=headers)).status_code == 200
    assert (await browser.post("/renew", headers=headers)).status_code == 401
    assert (await browser.post("/renew", headers={"x-device-id": ""})).status_code == 401


# --- without a framework --------------------------------------------------------------------------


async def connect(app: Any, authority: FakeAuthority, cookie: str, **scope: Any) -> list[Any]:
    """What a WebSocket's client gets."""
    sent: list[Any] = []
    headers = [(b"host", b"app.example"), (b"cookie", cookie.encode())]

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async with authority.async_client(timeout=PATIENCE) as client:
        middleware = SessionAuthorityMiddleware(app, client)
        await middleware(
            {"type": "websocket", "path": "/", "headers": headers, **scope}, receive, send
        )
    return sent


async def greet(scope: Any, receive: Any, send: Any) -> None:
    socket = WebSocket(scope, receive, send)
    session = await require_session(socket)
    await socket.accept(headers=[(b"x-app", b"1")])
    await socket.send_text(session.user_id)


async def test_a_websocket_is_judged_as_it_connects(
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


async def test_a_websocket_that_is_refused_late_is_closed(authority: FakeAuthority):
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


async def test_what_is_refused_after_the_headers_can_only_break_off(authority: FakeAuthority):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        visit_of(scope).require()

    async with authority.async_client() as client:
        transport = httpx.ASGITransport(app=SessionAuthorityMiddleware(app, client))
        async with httpx.AsyncClient(
            transport=transport, base_url="https://app.example"
        ) as browser:
            with pytest.raises(SignInRequired):
                await browser.get("/")


async def talk(app: Any, authority: FakeAuthority, method: str = "GET", **scope: Any) -> list[Any]:
    """What an app without a framework sends, one message after the other."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with authority.async_client(timeout=PATIENCE) as client:
        base = {"type": "http", "method": method, "path": "/", "headers": []}
        await SessionAuthorityMiddleware(app, client)({**base, **scope}, None, send)  # type: ignore[arg-type]
    return sent


async def test_a_response_that_is_refused_before_its_contents_is_another_one(
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

    start, body = await talk(app, authority)
    assert (start["status"], body["body"]) == (401, b'{"error": "sign_in_required"}')
    assert not {b"x-app", b"etag"} & {name for name, _ in start["headers"]}
    start, body = await talk(app, authority, "HEAD")
    assert (start["status"], body["body"]) == (401, b"")


async def test_a_stream_that_refuses_before_its_first_part_is_answered(authority: FakeAuthority):
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


async def test_headers_wait_for_contents_and_not_longer(authority: FakeAuthority):
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
            scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "said": said}
            await SessionAuthorityMiddleware(app, client)(scope, None, send)  # type: ignore[arg-type]
            assert seen == expected
            seen.clear()
            sent.clear()


async def test_headers_without_contents_go_out_in_the_end(authority: FakeAuthority):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    (start,) = await talk(app, authority)
    assert start["status"] == 204


async def test_a_fault_before_the_contents_is_left_to_the_server(authority: FakeAuthority):
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    async def send(message: Any) -> None:
        sent.append(message)

    async with authority.async_client() as client:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        with pytest.raises(ZeroDivisionError):
            await SessionAuthorityMiddleware(app, client)(scope, None, send)  # type: ignore[arg-type]
    assert sent == []


async def test_an_app_may_answer_in_its_own_words(authority: FakeAuthority):
    app = app_for(authority)

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


async def test_what_is_refused_gets_through_other_middleware(authority: FakeAuthority):
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


async def test_a_request_does_not_share_a_renewal_that_was_sent_before_it():
    service = StumblingService()
    with served_by(service) as authority:
        async with (
            browser_of(app_for(authority)) as browser,
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
            assert (await before).status_code == 200  # it was decided before the sign-out
            assert (await after).status_code == 401


async def test_other_kinds_of_scopes_pass(authority: FakeAuthority):
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async with authority.async_client() as client:
        await SessionAuthorityMiddleware(app, client)({"type": "new"}, None, None)  # type: ignore[arg-type]
    assert seen == ["new"]


def test_each_event_loop_has_a_client_of_its_own(authority: FakeAuthority):
    app, cookies = app_for(authority), httpx.Cookies()

    async def request(method: str, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url="https://app.example", cookies=cookies
        ) as browser:
            answer = await browser.request(method, path)
            cookies.update(browser.cookies)
            return answer

    assert asyncio.run(request("POST", "/sign-in")).status_code == 200
    authority.expire_tokens()
    assert asyncio.run(request("GET", "/me")).json() == "ada"
    assert asyncio.run(request("GET", "/me")).json() == "ada"
    assert authority.rotations == 1


async def test_what_the_app_notes_reaches_the_middleware_around(authority: FakeAuthority):
    app = app_for(authority)
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


async def test_without_the_middleware_one_is_told(authority: FakeAuthority):
    with pytest.raises(RuntimeError, match="not around this app"):
        visit_of({"type": "http"})


async def test_every_response_depends_on_who_asks(browser: httpx.AsyncClient):
    """Else a cache between would give one user's page to another, or to nobody."""
    for path in ("/maybe", "/me", "/static"):
        answer = await browser.get(path)
        assert "Cookie" in answer.headers["vary"], path
    await browser.post("/sign-in")
    assert "Authorization" in (await browser.get("/me")).headers["vary"]


@pytest.mark.parametrize("path", ["/sign-out", "/sign-out-everywhere?also_here=true"])
async def test_an_app_whose_token_has_expired_can_sign_out(
    authority: FakeAuthority, browser: httpx.AsyncClient, path: str
):
    """Its session goes on: what is not ended here could be renewed for weeks."""
    issued = (await browser.post("/sign-in", headers={"X-Device-Id": ""})).json()
    shown = {"Authorization": f"Bearer {issued['token']}", "X-Device-Id": issued["device"]}
    authority.expire_tokens()
    assert (await browser.get("/me", headers=shown)).json() == {"error": "token_expired"}
    assert (await browser.post(path, headers=shown)).status_code == 200
    assert (await browser.post("/renew", headers=shown)).status_code == 401


async def test_a_script_that_fetches_is_not_sent_to_a_page(authority: FakeAuthority):
    flow = Flow(sign_in_url="/sign-in")
    async with browser_of(app_for(authority, flow)) as browser:
        fetch = {"Accept": "application/json", "Sec-Fetch-Mode": "cors"}
        assert (await browser.get("/me", headers=fetch)).status_code == 401
        assert (await browser.get("/me", headers={"Accept": "application/json"})).status_code == 401
        assert (await browser.get("/me", headers={"Sec-Fetch-Mode": "navigate"})).status_code == 303
