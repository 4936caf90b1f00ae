"""The middleware for WSGI, around apps of Flask, Django and none, before the double of the service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import RequestFactory
from django.urls import path
from flask import Flask, Response, jsonify, request
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Request as PlainRequest
from werkzeug.wrappers import Response as PlainResponse

import session_authority_client.django as for_django
import session_authority_client.flask as for_flask
from session_authority_client import SessionAuthority
from session_authority_client.flow import Flow, Refused
from session_authority_client.testing import FakeAuthority
from session_authority_client.wsgi import SessionAuthorityMiddleware, visit_of

PATIENCE = timedelta(seconds=20)
HTTPS = "https://app.example"
App = Callable[[Any, Any], Iterable[bytes]]
_current: list[FakeAuthority] = []  # Django has one project for a process


def flask_app(authority: FakeAuthority, flow: Flow | None = None, timeout: timedelta = PATIENCE) -> App:
    app = Flask(__name__, static_folder=None)

    @app.post("/sign-in")
    def sign_in() -> Response:
        issued = for_flask.visit().sign_in("ada", auth_methods=["pwd"])
        return jsonify(token=issued.access_token, device=issued.device.device_id)

    @app.post("/sign-out")
    def sign_out() -> Response:
        for_flask.visit().sign_out(request.form.get("device"))
        return jsonify(None)

    @app.post("/sign-out-everywhere")
    def sign_out_everywhere() -> Response:
        return jsonify(for_flask.visit().sign_out_everywhere())

    @app.get("/devices")
    def devices() -> Response:
        return jsonify([device.current for device in for_flask.visit().devices()])

    @app.get("/me")
    @for_flask.require_session
    def me() -> Response:
        return jsonify(for_flask.visit().require().user_id)

    @app.get("/maybe")
    def maybe() -> Response:
        session = for_flask.visit().session
        return jsonify(session.user_id if session else None)

    @app.get("/static")
    def static() -> Response:
        response = Response("same for all", headers={"Cache-Control": "public, max-age=600"})
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.get("/stream")
    def stream() -> Response:
        visit = for_flask.visit()

        def body() -> Iterator[bytes]:
            yield b"one"
            with pytest.raises(RuntimeError, match="headers are out"):
                visit.sign_out()
            yield b"two"

        return Response(body())

    for_flask.install(app, lambda: authority.client(timeout=timeout), flow)
    return app


def plain_app(authority: FakeAuthority, flow: Flow | None = None, timeout: timedelta = PATIENCE) -> App:
    @PlainRequest.application
    def app(request: PlainRequest) -> PlainResponse:
        visit = visit_of(request.environ)
        if request.path == "/sign-in":
            issued = visit.sign_in("ada")
            return json_response({"token": issued.access_token, "device": issued.device.device_id})
        if request.path == "/sign-out":
            visit.sign_out(request.form.get("device"))
            return json_response(None)
        if request.path == "/sign-out-everywhere":
            return json_response(visit.sign_out_everywhere())
        if request.path == "/devices":
            return json_response([device.current for device in visit.devices()])
        if request.path == "/me":
            return json_response(visit.require().user_id)
        if request.path == "/maybe":
            return json_response(visit.session and visit.session.user_id)
        response = PlainResponse("same for all", headers={"Cache-Control": "public, max-age=600"})
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    return SessionAuthorityMiddleware(app, lambda: authority.client(timeout=timeout), flow)


def json_response(value: object) -> PlainResponse:
    return PlainResponse(json.dumps(value), mimetype="application/json")


def django_sign_in(request: HttpRequest) -> HttpResponse:
    issued = for_django.visit_of(request).sign_in("ada")
    return JsonResponse({"token": issued.access_token, "device": issued.device.device_id})


def django_sign_out(request: HttpRequest) -> HttpResponse:
    for_django.visit_of(request).sign_out(request.POST.get("device"))
    return JsonResponse(None, safe=False)


def django_sign_out_everywhere(request: HttpRequest) -> HttpResponse:
    return JsonResponse(for_django.visit_of(request).sign_out_everywhere(), safe=False)


def django_devices(request: HttpRequest) -> HttpResponse:
    return JsonResponse([device.current for device in for_django.visit_of(request).devices()], safe=False)


@for_django.require_session
def django_me(request: HttpRequest) -> HttpResponse:
    return JsonResponse(for_django.visit_of(request).require().user_id, safe=False)


def django_maybe(request: HttpRequest) -> HttpResponse:
    session = for_django.visit_of(request).session
    return JsonResponse(session.user_id if session else None, safe=False)


def django_static(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("same for all", headers={"Cache-Control": "public, max-age=600"})
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


class _Urls:
    urlpatterns = (
        path("sign-in", django_sign_in),
        path("sign-out", django_sign_out),
        path("sign-out-everywhere", django_sign_out_everywhere),
        path("devices", django_devices),
        path("me", django_me),
        path("maybe", django_maybe),
        path("static", django_static),
    )


@dataclass(frozen=True)
class _Made:
    """A client for whichever authority is the current one, when the project asks for it."""

    timeout: timedelta

    def __call__(self) -> SessionAuthority:
        return _current[-1].client(timeout=self.timeout)


def django_app(authority: FakeAuthority, flow: Flow | None = None, timeout: timedelta = PATIENCE) -> App:
    _current[:] = [authority]
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            MIDDLEWARE=["session_authority_client.django.SessionAuthorityMiddleware"],
            ROOT_URLCONF=_Urls,
            SECRET_KEY="for tests",
        )
        django.setup()
    settings.SESSION_AUTHORITY = _Made(timeout)
    settings.SESSION_AUTHORITY_FLOW = flow
    return WSGIHandler()  # type: ignore[no-any-return]


Maker = Callable[..., App]


@pytest.fixture(params=[plain_app, flask_app, django_app], ids=["plain", "flask", "django"])
def make(request: pytest.FixtureRequest) -> Maker:
    maker: Maker = request.param
    return maker


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    with FakeAuthority() as authority:
        yield authority


@pytest.fixture
def browser(make: Maker, authority: FakeAuthority) -> Client:
    return browser_of(make(authority))


def browser_of(app: App) -> Client:
    return Client(app)


def get(browser: Client, path: str, **more: Any) -> TestResponse:
    return browser.get(path, base_url=HTTPS, **more)


def post(browser: Client, path: str, **more: Any) -> TestResponse:
    return browser.post(path, base_url=HTTPS, **more)


def signed_in(browser: Client, **more: Any) -> dict[str, str]:
    """What a sign-in tells of its token and device."""
    told: dict[str, str] = json.loads(post(browser, "/sign-in", **more).data)
    return told


def set_cookies(response: TestResponse) -> dict[str, str]:
    """What a response sets, by name."""
    lines = [line.strip() for line in response.headers.getlist("Set-Cookie")]  # Django begins them with a blank
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


def attributes(line: str) -> set[str]:
    """What follows a cookie's value, in any order."""
    return set(line.split("; ")[1:])


def test_a_stranger_is_nobody_and_gets_no_cookies(authority: FakeAuthority, browser: Client):
    answer = get(browser, "/maybe")
    assert (answer.json, set_cookies(answer)) == (None, {})
    denied = get(browser, "/me")
    assert (denied.status_code, denied.json) == (401, {"error": "sign_in_required"})
    assert (denied.headers["WWW-Authenticate"], denied.headers["Cache-Control"]) == ("Bearer", "no-store")
    assert set_cookies(denied) == {}
    assert authority.calls == {}


def test_a_sign_in_sets_both_cookies_and_the_next_request_is_signed_in(browser: Client):
    answer = post(browser, "/sign-in")
    cookies = set_cookies(answer)
    token, device = cookies["__Host-session"], cookies["__Host-device"]
    strict = {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"}
    issued = json.loads(answer.data)
    assert device.startswith(f"{issued['device']}; ")
    assert attributes(device) == strict | {"Max-Age=34560000"}
    assert token.startswith(f"{issued['token']}; ")
    assert strict < attributes(token)
    assert answer.headers["Cache-Control"] == "no-store"
    again = get(browser, "/me")
    assert (again.json, set_cookies(again)) == ("ada", {})


def test_a_browser_stays_the_same_device(browser: Client):
    device = signed_in(browser)["device"]
    out = post(browser, "/sign-out")
    assert set(set_cookies(out)) == {"__Host-session"}
    assert "Max-Age=0" in attributes(set_cookies(out)["__Host-session"])
    assert get(browser, "/me").status_code == 401
    assert signed_in(browser)["device"] == device


def test_redirects_if_the_app_asks(make: Maker, authority: FakeAuthority):
    browser = browser_of(make(authority, Flow(sign_in_url="/sign-in")))
    answer = get(browser, "/me")
    assert (answer.status_code, answer.headers["Location"], answer.data) == (303, "/sign-in", b"")


def test_a_head_request_is_answered_without_a_body(browser: Client):
    head = browser.head("/me", base_url=HTTPS)
    assert (head.status_code, head.data) == (401, b"")


def test_an_expired_token_is_renewed_before_the_app(authority: FakeAuthority, browser: Client):
    post(browser, "/sign-in")
    authority.expire_tokens()
    answer = get(browser, "/me")
    assert answer.json == "ada"
    assert set(set_cookies(answer)) == {"__Host-session", "__Host-device"}
    assert set_cookies(get(browser, "/me")) == {}
    assert authority.rotations == 1


def test_an_old_token_is_renewed_when_the_headers_go_out(authority: FakeAuthority, browser: Client):
    post(browser, "/sign-in")
    authority.age_tokens()
    answer = get(browser, "/static")
    assert set(set_cookies(answer)) == {"a", "b", "__Host-session", "__Host-device"}
    assert answer.headers.getlist("Cache-Control") == ["no-store"]
    answer = get(browser, "/static")
    assert set(set_cookies(answer)) == {"a", "b"}
    assert answer.headers["Cache-Control"] == "public, max-age=600"


def test_parallel_requests_renew_once(authority: FakeAuthority, make: Maker):
    app = make(authority)
    first = browser_of(app)
    issued = signed_in(first)
    authority.expire_tokens()
    cookie = f"__Host-session={issued['token']}; __Host-device={issued['device']}"

    def ask(_: int) -> TestResponse:
        return get(Client(app, use_cookies=False), "/me", headers={"Cookie": cookie})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert authority.rotations == 1
    renewed = {set_cookies(answer)["__Host-session"].partition(";")[0] for answer in answers}
    cookie = f"__Host-session={renewed.pop()}; __Host-device={issued['device']}"
    assert ask(0).status_code == 200


def test_a_replay_takes_the_cookies_back(authority: FakeAuthority, browser: Client):
    post(browser, "/sign-in")
    authority.replay_tokens()
    answer = get(browser, "/me")
    assert (answer.status_code, answer.json) == (401, {"error": "sign_in_required"})
    assert set(set_cookies(answer)) == {"__Host-session", "__Host-device"}
    for line in set_cookies(answer).values():
        assert {"Max-Age=0", "Path=/", "Secure", "HttpOnly", "SameSite=Strict"} <= attributes(line)


def test_an_old_request_does_not_wipe_a_fresh_sign_in(browser: Client):
    old = signed_in(browser)
    post(browser, "/sign-in")
    cookie = f"__Host-session={old['token']}; __Host-device={old['device']}"
    answer = get(Client(browser.application, use_cookies=False), "/me", headers={"Cookie": cookie})
    assert (answer.status_code, set_cookies(answer)) == (401, {})
    assert get(browser, "/me").json == "ada"


def test_it_fails_closed_and_recovers(authority: FakeAuthority, browser: Client):
    post(browser, "/sign-in")
    with authority.unavailable():
        for path_ in ("/me", "/maybe", "/devices"):
            answer = get(browser, path_)
            assert (answer.status_code, answer.json) == (503, {"error": "unavailable"})
            assert (answer.headers["Retry-After"], set_cookies(answer)) == ("1", {})
        for path_ in ("/sign-in", "/sign-out", "/sign-out-everywhere"):
            assert post(browser, path_).status_code == 503
        assert get(browser, "/static").status_code == 200
    assert get(browser, "/me").json == "ada"


def test_an_authority_that_hangs_is_not_waited_for(authority: FakeAuthority, make: Maker):
    browser = browser_of(make(authority, timeout=timedelta(milliseconds=100)))
    with authority.client(timeout=PATIENCE) as client:
        issued = client.issue_device("ada")
    browser.set_cookie("__Host-session", issued.access_token, domain="app.example")
    browser.set_cookie("__Host-device", issued.device.device_id, domain="app.example")
    with authority.slow(timedelta(seconds=2)):
        assert get(browser, "/me").status_code == 503


def test_my_devices(authority: FakeAuthority, browser: Client):
    others = [Client(browser.application) for _ in range(2)]
    theirs = [signed_in(other)["device"] for other in others]
    post(browser, "/sign-in")
    assert get(browser, "/devices").json == [True, False, False]
    assert set_cookies(post(browser, "/sign-out", data={"device": theirs[0]})) == {}
    assert [get(one, "/me").status_code for one in (browser, *others)] == [200, 401, 200]
    assert post(browser, "/sign-out-everywhere").json == 1
    assert [get(one, "/me").status_code for one in (browser, *others)] == [200, 401, 401]


def test_the_client_is_told_of(authority: FakeAuthority, browser: Client):
    headers = {"User-Agent": "Firefox", "X-Forwarded-For": "6.6.6.6"}
    post(browser, "/sign-in", headers=headers, environ_base={"REMOTE_ADDR": "203.0.113.7"})
    with authority.client(timeout=PATIENCE) as client:
        (device,) = client.devices("ada")
    assert (device.last_client.user_agent, device.last_client.ip_address) == ("Firefox", "203.0.113.7")


def test_a_streamed_response_has_its_cookies_and_none_later(authority: FakeAuthority):
    browser = browser_of(flask_app(authority))
    post(browser, "/sign-in")
    authority.age_tokens()
    answer = get(browser, "/stream")
    assert (answer.data, len(set_cookies(answer))) == (b"onetwo", 2)


def test_a_bearer_token_gets_no_cookies(authority: FakeAuthority, browser: Client):
    answer = post(browser, "/sign-in", headers={"X-Device-Id": ""})
    assert set_cookies(answer) == {}
    issued = json.loads(answer.data)
    headers = {"Authorization": f"Bearer {issued['token']}", "X-Device-Id": issued["device"]}
    assert get(browser, "/me", headers=headers).json == "ada"
    authority.expire_tokens()
    answer = get(browser, "/me", headers=headers)
    assert (answer.status_code, answer.json, set_cookies(answer)) == (401, {"error": "token_expired"}, {})


def test_a_forked_process_makes_a_client_of_its_own(authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch):
    made = []

    def make_client() -> SessionAuthority:
        made.append(authority.client(timeout=PATIENCE))
        return made[-1]

    browser = Client(SessionAuthorityMiddleware(lambda environ, start: start("200 OK", []) and [], make_client))
    for _ in range(2):
        get(browser, "/")
    assert len(made) == 1
    monkeypatch.setattr("os.getpid", lambda: -1)
    for _ in range(2):
        get(browser, "/")
    assert len(made) == 2


def test_faults_of_the_app_are_its_own(authority: FakeAuthority):
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise ZeroDivisionError

    with authority.client() as client, pytest.raises(ZeroDivisionError):
        get(Client(SessionAuthorityMiddleware(app, client)), "/")


def test_without_the_middleware_one_is_told():
    with pytest.raises(RuntimeError, match="not around this app"):
        visit_of({})
    django_app(FakeAuthority())
    with pytest.raises(RuntimeError, match="not in MIDDLEWARE"):
        for_django.visit_of(RequestFactory().get("/"))


def test_what_is_refused_is_an_exception_that_apps_may_catch(authority: FakeAuthority):
    caught = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        try:
            visit_of(environ).require()
        except Refused as refused:
            caught.append(refused.code)
        start_response("200 OK", [])
        return [b"as you like"]

    with authority.client() as client:
        assert get(Client(SessionAuthorityMiddleware(app, client)), "/").data == b"as you like"
    assert caught == ["sign_in_required"]
