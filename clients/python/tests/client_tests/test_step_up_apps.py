"""A page that needs a fresh or strong sign-in, in an app of each framework."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import flask
import httpx
import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from fastapi import FastAPI
from starlette.responses import PlainTextResponse, RedirectResponse, Response

import session_authority_client.django as for_django
import session_authority_client.flask as for_flask
from client_tests.middleware_harness import (
    APPS,
    BOTH,
    DEVICE,
    PATIENCE,
    RECENT,
    TOKEN,
    Maker,
    SignedInRecently,
    Visit,
    browser_of,
    set_cookies,
)
from session_authority_client.asgi import SessionAuthorityMiddleware
from session_authority_client.flow import Flow, StepUpRequired
from session_authority_client.starlette import require_step_up
from session_authority_client.testing import FakeAuthority

JSON = {"accept": "application/json"}
CODE = "insufficient_user_authentication"
OLD = RECENT + timedelta(minutes=1)


@pytest.fixture(params=APPS)
def make(request: pytest.FixtureRequest) -> Maker:
    return APPS[request.param]


@pytest.fixture
async def browser(make: Maker, authority: FakeAuthority) -> AsyncIterator[httpx.AsyncClient]:
    """A browser in which ada has signed in with a password."""
    async with browser_of(make(authority, Flow(sign_in_url="/sign-in"))) as browser:
        assert (await browser.post("/sign-in")).status_code == 200
        yield browser


def devices_of(authority: FakeAuthority, user: str = "ada") -> list[str]:
    with authority.client(timeout=PATIENCE) as client:
        return [device.device_id for device in client.devices(user, include_signed_out=True)]


async def test_an_old_sign_in_is_replaced_by_a_new_one_on_the_same_device(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    assert (await browser.get("/recent")).json() == "ada"
    device = browser.cookies[DEVICE]
    authority.pass_time(OLD)
    for _ in range(2):  # the user gives up the first attempt: the session stays as it was
        sent = await browser.get("/recent")
        location = "/sign-in?next=/recent&reason=step_up&max_age=300"
        assert (sent.status_code, sent.headers["location"]) == (303, location)
        assert set_cookies(sent) == {}
        assert "clear-site-data" not in sent.headers
        assert (await browser.get("/me")).json() == "ada"
    assert set(set_cookies(await browser.post(location))) == BOTH
    assert (await browser.get("/recent")).json() == "ada"
    assert browser.cookies[DEVICE] == device
    assert devices_of(authority) == [device]
    authority.pass_time(OLD)
    assert (await browser.get("/recent")).status_code == 303


async def test_a_weak_sign_in_is_replaced_by_one_with_a_required_method(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    sent = await browser.get("/strong")
    location = "/sign-in?next=/strong&reason=step_up&auth_methods=otp%20hwk"
    assert (sent.status_code, sent.headers["location"]) == (303, location)
    await browser.post(location)  # with the password alone
    assert (await browser.get("/strong")).headers["location"] == location
    await browser.post(location, params={"methods": "pwd otp"})
    assert (await browser.get("/strong")).json() == "ada"
    assert (await browser.get("/strong", params={"of": "pwd"})).json() == "ada"
    assert (await browser.get("/strong", params={"of": "hwk"})).status_code == 303
    assert len(devices_of(authority)) == 1


async def test_a_script_of_a_page_gets_the_error_code(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    authority.pass_time(OLD)
    denied = await browser.post("/recent", headers=JSON)
    assert (denied.status_code, denied.json()) == (401, {"error": CODE, "max_age": 300})
    assert set_cookies(denied) == {}
    assert denied.headers["cache-control"] == "no-store"
    assert "Cookie" in denied.headers["vary"]


async def test_a_renewal_does_not_count_as_a_sign_in(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    authority.pass_time(timedelta(hours=2))
    sent = await browser.get("/recent")
    assert (sent.status_code, authority.rotations) == (303, 1)
    assert set(set_cookies(sent)) == BOTH  # the session continues


async def test_a_missing_sign_in_and_an_outage_are_reported_as_such(
    authority: FakeAuthority, make: Maker
):
    async with browser_of(make(authority)) as browser:
        denied = await browser.get("/recent", headers=JSON)
        assert (denied.status_code, denied.json()) == (401, {"error": "sign_in_required"})
        await browser.post("/sign-in")
        authority.pass_time(OLD)
        with authority.unavailable():
            assert (await browser.get("/recent", headers=JSON)).status_code == 503
        denied = await browser.get("/recent")  # the app has no sign-in page to redirect to
        assert (denied.status_code, denied.json()["error"]) == (401, CODE)


async def test_an_app_may_catch_the_refusal_and_answer_itself(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    assert (await browser.get("/caught")).json() == "ada"
    authority.pass_time(OLD)
    assert (await browser.get("/caught")).json() == ["ada", "0:05:00"]


async def test_an_app_that_is_no_browser_signs_in_again_as_the_same_device(
    authority: FakeAuthority, browser: httpx.AsyncClient
):
    app = authority.sign_in("grace", auth_methods=["pwd"], age=OLD)
    denied = await browser.get("/recent", headers=app)
    assert (denied.status_code, denied.json()["error"]) == (401, CODE)
    told = (await browser.post("/sign-in?user=grace", headers=app)).json()
    assert told["device"] == app["X-Device-Id"]
    again = {"Authorization": f"Bearer {told['token']}", "X-Device-Id": told["device"]}
    assert (await browser.get("/recent", headers=again)).json() == "grace"
    assert devices_of(authority, "grace") == [told["device"]]
    # A request that was sent before the new sign-in.
    assert (await browser.get("/me", headers={**app, **JSON})).status_code == 401
    assert (await browser.get("/recent", headers=again)).json() == "grace"


class Page(View):  # type: ignore[misc]  # Django has no types
    @method_decorator(for_django.require_session(auth_methods=("otp",)))
    def dispatch(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("strong")


def test_a_class_based_view_of_django_checks_every_request(authority: FakeAuthority):
    signed_in = {name: authority.sign_in("ada", auth_methods=[name]) for name in ("pwd", "otp")}
    APPS["django"](authority)
    middleware = for_django.SessionAuthorityMiddleware(Page.as_view())
    for _ in range(2):
        request = RequestFactory(headers=signed_in["otp"]).get("/")
        assert middleware(request).status_code == 200
        with pytest.raises(StepUpRequired):
            middleware(RequestFactory(headers=signed_in["pwd"]).get("/"))


def door_of(visit: Any) -> str | None:
    """Where a sign-in page redirects a signed-in user. None if the page shows its form."""
    return visit.next_path() if visit.session and not visit.requested_step_up() else None


def flask_with_a_door(authority: FakeAuthority, flow: Flow) -> Any:
    app = flask.Flask(__name__)

    @app.get("/recent")
    @for_flask.require_session(max_age=RECENT)
    def recent() -> str:
        return "recent"

    @app.get("/door")
    def door() -> Any:
        away = door_of(for_flask.visit())
        return flask.redirect(away) if away else "form"

    for_flask.install(app, lambda: authority.client(timeout=PATIENCE), flow)
    return app


def fastapi_with_a_door(authority: FakeAuthority, flow: Flow) -> Any:
    app = FastAPI()

    @app.get("/recent")
    async def recent(session: SignedInRecently) -> str:
        return "recent"

    @app.get("/door")
    async def door(visit: Visit) -> Response:
        away = door_of(visit)
        return RedirectResponse(away) if away else PlainTextResponse("form")

    app.add_middleware(
        SessionAuthorityMiddleware,
        authority=lambda: authority.async_client(timeout=PATIENCE),
        flow=flow,
    )
    return app


@pytest.mark.parametrize("make", [flask_with_a_door, fastapi_with_a_door])
async def test_a_sign_in_page_that_redirects_signed_in_users_makes_no_loop(
    authority: FakeAuthority, make: Maker
):
    signed_in = authority.sign_in("ada")
    token, device = signed_in["Authorization"].removeprefix("Bearer "), signed_in["X-Device-Id"]
    async with browser_of(make(authority, Flow(sign_in_url="/door"))) as browser:
        browser.follow_redirects = True
        for name, value in ((TOKEN, token), (DEVICE, device)):
            browser.cookies.set(name, value, "app.example")
        away = await browser.get("/door?next=/recent")
        assert (away.url.path, len(away.history)) == ("/recent", 1)
        authority.pass_time(OLD)
        asked = await browser.get("/recent")
        assert (asked.url.path, asked.text, len(asked.history)) == ("/door", "form", 1)


@pytest.mark.parametrize(
    "helper", [for_flask.require_session, for_django.require_session, require_step_up]
)
@pytest.mark.parametrize(
    "arguments", [{"max_age": timedelta(-1)}, {"auth_methods": "otp"}, {"auth_methods": []}]
)
def test_invalid_arguments_are_refused_before_the_first_request(
    helper: Any, arguments: dict[str, Any]
):
    with pytest.raises(ValueError, match=r"max_age|auth_methods"):
        helper(**arguments)
