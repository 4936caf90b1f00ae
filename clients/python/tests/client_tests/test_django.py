"""The middleware for Django together with other middleware of a project, and with Django's own
protection of forms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client as DjangoClient
from django.test import RequestFactory, override_settings
from django.urls import path as url_path

import session_authority_client.django as for_django
from client_tests.middleware_harness import HTTPS, browser_of, django_app, set_cookies
from client_tests.test_wsgi import Served
from session_authority_client.flow import Flow, Refused
from session_authority_client.testing import FakeAuthority

# Django REST framework reads the settings when it is imported.
django_app(FakeAuthority())

from rest_framework.renderers import JSONRenderer  # noqa: E402
from rest_framework.response import Response as RestResponse  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class Requiring:
    """Middleware of a project, below ours. The path of a request chooses what this middleware
    does.
    """

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
    """Middleware below `Requiring`. An exception that it raises passes through `Requiring`."""

    def __call__(self, request: HttpRequest) -> Any:
        if request.path == "/inner":
            for_django.visit_of(request).require()
        return self._get_response(request)


BELOW = [f"{__name__}.Requiring", f"{__name__}.Inner"]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("path_", ["required", "inner"])
async def test_a_refusal_by_other_middleware_is_answered(
    authority: FakeAuthority, caplog: pytest.LogCaptureFixture, debug: bool, path_: str
):
    path, app = f"/{path_}", django_app(authority, Flow(sign_in_url="/sign-in"), below=BELOW)
    json = {"Accept": "application/json"}
    settings.DEBUG = debug
    try:
        async with browser_of(app) as browser:
            denied = await browser.get(path, headers=json)
            assert (denied.status_code, denied.json()) == (401, {"error": "sign_in_required"})
            assert "Cookie" in denied.headers["Vary"]
            assert (await browser.get(path)).status_code == 303
            head = await browser.head(path, headers={"Sec-Fetch-Mode": "cors"})
            assert head.content == b""
            assert [record for record in caplog.records if record.levelname == "ERROR"] == []
            await browser.post("/sign-in")
            assert (await browser.get(path)).status_code == 404  # the project has no such page
            with authority.unavailable():
                away = await browser.get(path, headers=json)
            assert (away.status_code, away.json()) == (503, {"error": "unavailable"})
            assert away.headers["Retry-After"] == "1"
            authority.replay_tokens()
            assert len(set_cookies(await browser.get(path))) == 2
    finally:
        settings.DEBUG = False


async def test_other_middleware_may_answer_a_refusal_itself(authority: FakeAuthority):
    async with browser_of(django_app(authority, below=BELOW)) as browser:
        caught = await browser.get("/required-and-caught")
        assert (caught.status_code, caught.content) == (400, b"members only")
        assert (await browser.get("/required-and-bad")).status_code == 400


def test_the_test_client_of_django_sees_the_answer(authority: FakeAuthority):
    django_app(authority, below=BELOW)
    answer = DjangoClient().get("/required", headers={"accept": "application/json"})
    assert answer.status_code == 401


async def test_django_s_own_protection_of_forms_may_be_active_too(authority: FakeAuthority):
    app = django_app(authority, below=["django.middleware.csrf.CsrfViewMiddleware"])
    async with browser_of(app) as browser:
        foreign = await browser.post("/sign-in", headers={"Origin": "https://evil.example"})
        assert foreign.json() == {"error": "cross_origin_request"}
        without_token = await browser.post("/sign-in", headers={"Origin": HTTPS})
        assert (without_token.status_code, b"CSRF" in without_token.content) == (403, True)


def test_a_project_without_the_middleware_gets_a_clear_error():
    django_app(FakeAuthority())
    with pytest.raises(RuntimeError, match="not in MIDDLEWARE"):
        for_django.visit_of(RequestFactory().get("/"))


# --- frameworks in Django -------------------------------------------------------------------------


class Account(APIView):  # type: ignore[misc]  # it has no types
    """A view of Django REST framework. The query chooses how the view requires a session."""

    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (JSONRenderer,)

    def get(self, request: Any) -> Any:
        visit = for_django.visit_of(request._request)
        if "group" in request.query_params:

            async def look() -> str:
                return visit.require().user_id

            async def together() -> str:
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(look())
                return task.result()

            return RestResponse(asyncio.run(together()))
        return RestResponse(visit.require().user_id)


class Catching(Account):
    """A view of a project that answers all exceptions itself."""

    def get_exception_handler(self) -> Any:
        return lambda error, context: RestResponse({"error": "oops"}, 500)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Streams a response that requires a session for its first part, or for its second part."""
    visit = for_django.visit_of(request)

    def parts() -> Iterator[bytes]:
        if "half" in request.GET:
            yield b"one "
        yield visit.require().user_id.encode()

    return StreamingHttpResponse(parts())


class Pages:
    urlpatterns = (
        url_path("account", Account.as_view()),
        url_path("catching", Catching.as_view()),
        url_path("stream", stream),
    )


@pytest.mark.parametrize("page", ["/account", "/account?group", "/catching", "/stream"])
async def test_a_refusal_that_a_framework_in_django_answered_is_corrected(
    authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch, page: str
):
    app = django_app(authority, Flow(sign_in_url="/sign-in"))
    with override_settings(ROOT_URLCONF=Pages):
        async with browser_of(app) as browser:
            json = {"Accept": "application/json"}
            denied = await browser.get(page, headers=json)
            assert (denied.status_code, denied.json()) == (401, {"error": "sign_in_required"})
            navigates = {"Accept": "text/html, */*", "Sec-Fetch-Mode": "navigate"}
            assert (await browser.get(page, headers=navigates)).status_code == 303
            signed_in = authority.sign_in("ada")
            assert "ada" in (await browser.get(page, headers=signed_in)).text
            with authority.unavailable():
                away = await browser.get(page, headers={**signed_in, **json})
            assert (away.status_code, away.json()) == (503, {"error": "unavailable"})


def test_a_django_stream_that_refuses_half_way_breaks_off(authority: FakeAuthority):
    app = django_app(authority)
    served = Served()
    served.base_env.update(PATH_INFO="/stream", QUERY_STRING="half")
    with override_settings(ROOT_URLCONF=Pages):
        served.run(app)
    assert (served.raised is not None, served.out.getvalue()[-4:]) == (True, b"one ")
