"""The middleware for WSGI, around apps of Flask, Django and none, before the double of the
service.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import django
import pytest
from django.conf import settings
from django.core.exceptions import BadRequest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client as DjangoClient
from django.test import RequestFactory
from django.urls import path
from flask import Flask, Response, jsonify, request
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Request as PlainRequest
from werkzeug.wrappers import Response as PlainResponse

import session_authority_client.django as for_django
import session_authority_client.flask as for_flask
from session_authority_client import SessionAuthority
from session_authority_client.cookies import Cookies
from session_authority_client.flow import Flow, NoAnswer, Refused, SignInRequired
from session_authority_client.testing import FakeAuthority
from session_authority_client.wsgi import SessionAuthorityMiddleware, visit_of

PATIENCE = timedelta(seconds=20)
HTTPS = "https://app.example"
App = Callable[[Any, Any], Iterable[bytes]]
_current: list[FakeAuthority] = []  # Django has one project for a process


def flask_app(
    authority: FakeAuthority, flow: Flow | None = None, timeout: timedelta = PATIENCE
) -> App:
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


def plain_app(
    authority: FakeAuthority, flow: Flow | None = None, timeout: timedelta = PATIENCE
) -> App:
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
    return JsonResponse(
        [device.current for device in for_django.visit_of(request).devices()], safe=False
    )


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


class Requiring:
    """Middleware of a project, below ours; the path says how it goes about it."""

    def __init__(self, get_response: Any) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        way = request.path.strip("/")
        try:
            if way.startswith("required"):
                for_django.visit_of(request).require()
        except Refused:
            if way == "required-and-caught":
                return HttpResponse("members only", status=400)
            if way == "required-and-bad":
                raise BadRequest("of the app") from None
            raise
        response = self._get_response(request)
        if way == "required-after":
            for_django.visit_of(request).require()
        return response


class Inner(Requiring):
    """More of it: what is raised here passes through the other."""

    def __call__(self, request: HttpRequest) -> Any:
        if request.path == "/inner":
            for_django.visit_of(request).require()
        return self._get_response(request)


@dataclass(frozen=True)
class _Made:
    """A client for whichever authority is the current one, when the project asks for it."""

    timeout: timedelta

    def __call__(self) -> SessionAuthority:
        return _current[-1].client(timeout=self.timeout)


def django_app(
    authority: FakeAuthority,
    flow: Flow | None = None,
    timeout: timedelta = PATIENCE,
    below: Sequence[str] = (),
) -> App:
    _current[:] = [authority]
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=_Urls,
            SECRET_KEY="for tests",
        )
        django.setup()
    settings.MIDDLEWARE = ["session_authority_client.django.SessionAuthorityMiddleware", *below]
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
    lines = [
        line.strip() for line in response.headers.getlist("Set-Cookie")
    ]  # Django begins them with a blank
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


def attributes(line: str) -> set[str]:
    """What follows a cookie's value, in any order."""
    return set(line.split("; ")[1:])


def test_a_stranger_is_nobody_and_gets_no_cookies(authority: FakeAuthority, browser: Client):
    answer = get(browser, "/maybe")
    assert (answer.json, set_cookies(answer)) == (None, {})
    denied = get(browser, "/me")
    assert (denied.status_code, denied.json) == (401, {"error": "sign_in_required"})
    assert (denied.headers["WWW-Authenticate"], denied.headers["Cache-Control"]) == (
        "Bearer",
        "no-store",
    )
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
            answer = get(browser, path_, headers={"Accept": "application/json"})
            assert (answer.status_code, answer.json) == (503, {"error": "unavailable"})
            assert (answer.headers["Retry-After"], set_cookies(answer)) == ("1", {})
            page = get(browser, path_, headers={"Accept": "text/html"})
            assert (page.status_code, page.content_type) == (503, "text/html; charset=utf-8")
            assert (page.headers["Retry-After"], set_cookies(page)) == ("1", {})
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
    assert (device.last_client.user_agent, device.last_client.ip_address) == (
        "Firefox",
        "203.0.113.7",
    )


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
    assert (answer.status_code, answer.json, set_cookies(answer)) == (
        401,
        {"error": "token_expired"},
        {},
    )


def test_a_forked_process_makes_a_client_of_its_own(
    authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch
):
    made = []

    def make_client() -> SessionAuthority:
        made.append(authority.client(timeout=PATIENCE))
        return made[-1]

    browser = Client(
        SessionAuthorityMiddleware(lambda environ, start: start("200 OK", []) and [], make_client)
    )
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


def test_a_cookie_of_the_apps_with_a_name_of_ours_is_left_out(
    authority: FakeAuthority, make: Maker, caplog: Any
):
    plain = Flow(Cookies(token="a", device="b", insecure=True))
    browser = browser_of(make(authority, plain))
    local = {"base_url": "http://localhost"}
    answer = browser.get("/static", **local)
    assert set_cookies(answer) == {}
    assert "named a, which is the Session Authority's" in caplog.text
    browser.post("/sign-in", **local)
    browser.get("/static", **local)
    assert browser.get("/me", **local).json == "ada"


# --- Django's middleware below ours ---------------------------------------------------------------

BELOW = [f"{__name__}.Requiring", f"{__name__}.Inner"]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("path_", ["required", "inner"])
def test_what_middleware_refuses_is_answered(
    authority: FakeAuthority, caplog: Any, debug: bool, path_: str
):
    browser = browser_of(django_app(authority, Flow(sign_in_url="/sign-in"), below=BELOW))
    settings.DEBUG = debug
    try:
        denied = get(browser, f"/{path_}", headers={"Accept": "application/json"})
        assert (denied.status_code, denied.json) == (401, {"error": "sign_in_required"})
        assert "Cookie" in denied.headers["Vary"]
        assert get(browser, f"/{path_}").status_code == 303
        assert (
            browser.head(f"/{path_}", base_url=HTTPS, headers={"Sec-Fetch-Mode": "cors"}).data
            == b""
        )
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []
        post(browser, "/sign-in")
        assert get(browser, f"/{path_}").status_code == 404  # there is no such page
        with authority.unavailable():
            away = get(browser, f"/{path_}", headers={"Accept": "application/json"})
        assert (away.status_code, away.json, away.headers["Retry-After"]) == (
            503,
            {"error": "unavailable"},
            "1",
        )
        authority.replay_tokens()
        assert len(set_cookies(get(browser, f"/{path_}"))) == 2
    finally:
        settings.DEBUG = False


def test_what_middleware_makes_of_it_is_its_own(authority: FakeAuthority):
    browser = browser_of(django_app(authority, below=BELOW))
    caught = get(browser, "/required-and-caught")
    assert (caught.status_code, caught.data) == (400, b"members only")
    assert get(browser, "/required-and-bad").status_code == 400


def test_a_test_client_of_django_sees_the_answer(authority: FakeAuthority):
    django_app(authority, below=BELOW)
    assert (
        DjangoClient().get("/required", headers={"accept": "application/json"}).status_code == 401
    )


def test_djangos_own_protection_of_forms_may_be_there_too(authority: FakeAuthority):
    browser = browser_of(django_app(authority, below=["django.middleware.csrf.CsrfViewMiddleware"]))
    assert post(browser, "/sign-in", headers={"Origin": "https://evil.example"}).json == {
        "error": "cross_origin_request"
    }
    without_token = post(browser, "/sign-in", headers={"Origin": HTTPS})
    assert (without_token.status_code, b"CSRF" in without_token.data) == (403, True)


def test_forms_of_other_sites_are_refused(authority: FakeAuthority, browser: Client):
    signed_in(browser)
    before = dict(authority.calls)
    for path_ in ("/sign-in", "/sign-out", "/sign-out-everywhere"):
        answer = post(
            browser,
            path_,
            headers={"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        )
        assert (answer.status_code, answer.json, set_cookies(answer)) == (
            403,
            {"error": "cross_origin_request"},
            {},
        )
    assert dict(authority.calls) == before
    assert get(browser, "/me", headers={"Sec-Fetch-Site": "cross-site"}).json == "ada"


# --- apps that answer late ------------------------------------------------------------------------


class Served(SimpleHandler):
    """A server's part, by the book: headers go out with the first contents."""

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
        """Remembers it."""
        self.raised = exc_info[0]

    raised: type[BaseException] | None = None


def serve(authority: FakeAuthority, app: App, method: str = "GET") -> tuple[Served, str]:
    """What a client gets of it, as text."""
    served = Served(method)
    with authority.client() as client:
        served.run(
            validator(SessionAuthorityMiddleware(app, client))
        )  # which checks both sides against PEP 3333
    return served, served.out.getvalue().decode()


class Chunks:
    """Contents that tell whether they were closed."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("started", ["before", "inside", "never"])
def test_a_generator_that_refuses_before_its_contents_is_answered(
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


def test_a_generator_that_refuses_after_contents_can_only_break_off(authority: FakeAuthority):
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


def test_an_app_that_wrote_contents_can_only_break_off(authority: FakeAuthority):
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"one")
        visit_of(environ).require()
        return [b"secret"]

    served, text = serve(authority, app)
    assert (served.raised, text.endswith("one")) == (SignInRequired, True)


def test_an_app_that_refuses_once_it_started_is_answered(authority: FakeAuthority):
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        visit_of(environ).require()
        return [b"secret"]

    assert serve(authority, app)[1].startswith("HTTP/1.0 401 ")


def test_contents_stay_as_lazy_as_they_were(authority: FakeAuthority):
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


def test_contents_that_nobody_wants_are_closed(authority: FakeAuthority):
    chunks = Chunks(iter([b"one"]))
    with authority.client() as client:
        middleware = SessionAuthorityMiddleware(lambda environ, start: chunks, client)
        middleware({"REQUEST_METHOD": "GET"}, None).close()  # type: ignore[arg-type,attr-defined]
    assert chunks.closed == 1


def test_what_servers_send_in_a_better_way_is_left_to_them(authority: FakeAuthority):
    file = FileWrapper(io.BytesIO(b"contents"))
    environ = {"REQUEST_METHOD": "GET", "wsgi.file_wrapper": FileWrapper}
    with authority.client() as client:
        for body in (file, [b"one"], (b"one",)):
            middleware = SessionAuthorityMiddleware(lambda environ, start, body=body: body, client)  # type: ignore[misc]
            assert middleware(dict(environ), None) is body  # type: ignore[arg-type]


def test_a_stream_of_flask_that_refuses_before_its_first_part_is_answered(authority: FakeAuthority):
    app = flask_app(authority)

    @app.get("/late")  # type: ignore[attr-defined]
    def late() -> Response:
        visit = for_flask.visit()
        return Response(visit.require().user_id.encode() for _ in range(1))

    served = Served()
    served.base_env["PATH_INFO"] = "/late"
    served.run(validator(app))
    assert served.out.getvalue().startswith(b"HTTP/1.0 401 ")


def test_an_app_may_answer_in_its_own_words(authority: FakeAuthority):
    app = flask_app(authority)
    app.register_error_handler(NoAnswer, lambda refused: ("sorry", refused.answer.status))  # type: ignore[attr-defined]
    browser = browser_of(app)
    post(browser, "/sign-in")
    with authority.unavailable():
        answer = get(browser, "/me")
    assert (answer.status_code, answer.data) == (503, b"sorry")


def test_exceptions_of_the_app_keep_their_way(authority: FakeAuthority):
    """An app that found a fault may start again, with `exc_info` (PEP 3333)."""

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
