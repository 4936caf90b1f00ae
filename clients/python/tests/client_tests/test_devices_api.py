"""The API of the page of devices, in every kind of app."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import grpc
import httpx
import pytest
from fastapi import FastAPI
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from client_tests.devices_harness import (
    API,
    DAY,
    FLOW,
    MOUNT,
    OWN,
    PAGE,
    PASSWORD,
    add_devices,
    listed,
    post,
    refusing,
    remember_devices,
    signed_in,
)
from client_tests.middleware_harness import (
    APPS,
    PATIENCE,
    TOKEN,
    browser_of,
    fastapi_app,
    set_cookies,
)
from session_authority_client import ClientInfo, Place
from session_authority_client.devices import DevicesPage, openapi, settings
from session_authority_client.devices.answers import STATUS
from session_authority_client.devices.routes import ROUTES
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority

HOSTILE = ClientInfo(
    ip_address="198.51.100.7",
    user_agent='"><script>alert(1)</script>',
    display_name="</script><img src=x onerror=alert(1)>'\"&\u2028{name}",
    place=Place('<b>"Köln"', "DE"),
)


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeAuthority]:
    with FakeAuthority() as authority:
        yield authority


@pytest.fixture
def authority(shared: FakeAuthority) -> FakeAuthority:
    shared.reset()
    return shared


@pytest.fixture(params=sorted(APPS))
async def browser(
    request: pytest.FixtureRequest, authority: FakeAuthority
) -> AsyncIterator[httpx.AsyncClient]:
    async with signed_in(APPS[request.param], authority) as browser:
        yield browser


@pytest.fixture
async def fast(authority: FakeAuthority) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at one kind of app, for behaviour that all kinds of app share."""
    async with signed_in(fastapi_app, authority) as browser:
        yield browser


def conforms(told: Any, schema: str) -> None:
    document = openapi.document(MOUNT)
    wanted = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    OAS31Validator(wanted, format_checker=oas31_format_checker).validate(told)


def code_of(answer: httpx.Response) -> tuple[int, str, str | None]:
    conforms(answer.json(), "Error")
    error = answer.json()["error"]
    assert error["message"]
    return answer.status_code, error["code"], error["field"]


async def test_a_device_is_listed_with_all_its_facts(
    browser: httpx.AsyncClient, authority: FakeAuthority
):
    [other] = add_devices(authority, [replace(HOSTILE, display_name="Sami's phone")])
    told = await listed(browser)
    conforms(told, "DeviceList")
    here, there = told["devices"]
    assert (here["current"], here["signed_in"], here["active_now"]) == (True, True, True)
    assert (here["name"], here["auth_methods"]) == (None, ["pwd"])
    assert (there["id"], there["name"], there["current"]) == (other, "Sami's phone", False)
    assert there["place"] == {"city": '<b>"Köln"', "country_code": "DE"}
    assert there["address"] == "198.51.100.7"
    assert there["ends_at"] > there["signed_in_at"]
    assert (told["secure_account_url"], told["next"], told["alarms"]) == (PASSWORD, None, [])


async def test_a_device_is_renamed(browser: httpx.AsyncClient, authority: FakeAuthority):
    [other] = add_devices(authority, [ClientInfo()])
    answer = await post(browser, f"/devices/{other.upper()}/rename", {"name": "  Sami's   phone "})
    assert (answer.status_code, answer.json()["device"]["name"]) == (200, "Sami's phone")
    conforms(answer.json()["device"], "Device")
    assert (await listed(browser))["devices"][1]["name"] == "Sami's phone"
    await post(browser, f"/devices/{other}/rename", {"name": ""})
    assert (await listed(browser))["devices"][1]["name"] is None


async def test_another_device_is_signed_out(browser: httpx.AsyncClient, authority: FakeAuthority):
    [other] = add_devices(authority, [ClientInfo()])
    answers = [(await post(browser, f"/devices/{other}/sign-out")).json() for _ in range(2)]
    assert answers == [{"signed_out": 1}, {"signed_out": 0}]
    told = await listed(browser)
    assert [device["signed_in"] for device in told["devices"]] == [True, False]
    assert told["devices"][1]["ends_at"] is None


async def test_not_me_signs_a_device_out_and_removes_it_from_the_list(
    browser: httpx.AsyncClient, authority: FakeAuthority
):
    [other] = add_devices(authority, [ClientInfo()])
    answer = await post(browser, f"/devices/{other}/not-me")
    assert answer.json() == {"signed_out": 1, "secure_account_url": PASSWORD}
    assert authority._service.state.events[-1].reason == "not_me"
    assert [device["current"] for device in (await listed(browser))["devices"]] == [True]
    with authority.client(timeout=PATIENCE) as client:  # the stranger signs in on that device again
        client.issue_device("ada", device_id=other)
    assert authority._service.state.events[-1].new_device, "a mail is due"


async def test_not_me_removes_a_device_that_is_signed_out_already(
    browser: httpx.AsyncClient, authority: FakeAuthority
):
    [other] = add_devices(authority, [ClientInfo()])
    await post(browser, f"/devices/{other}/sign-out")
    assert (await post(browser, f"/devices/{other}/not-me")).json()["signed_out"] == 0
    assert len((await listed(browser))["devices"]) == 1
    assert code_of(await post(browser, f"/devices/{other}/not-me")) == (404, "unknown_device", None)


async def test_all_other_devices_are_signed_out(
    browser: httpx.AsyncClient, authority: FakeAuthority
):
    add_devices(authority, [ClientInfo()] * 3)
    assert (await post(browser, "/sign-out-others")).json() == {"signed_out": 3}
    assert [device["signed_in"] for device in (await listed(browser))["devices"]] == [
        *(True, False, False, False)
    ]


@pytest.mark.parametrize("by_id", [True, False])
async def test_this_device_is_signed_out_with_its_cookies(browser: httpx.AsyncClient, by_id: bool):
    here = (await listed(browser))["devices"][0]["id"]
    answer = await post(browser, f"/devices/{here}/sign-out" if by_id else "/sign-out")
    assert answer.json() == {"signed_out": 1}
    assert "Max-Age=0" in set_cookies(answer)[TOKEN]
    again = await browser.get(f"{API}/devices")
    assert code_of(again) == (401, "signed_out", None)


@pytest.mark.parametrize("verb", ["rename", "sign-out", "not-me"])
async def test_a_device_of_another_user_is_unknown(
    browser: httpx.AsyncClient, authority: FakeAuthority, verb: str
):
    [foreign] = add_devices(authority, [ClientInfo(display_name="Bob's")], user="bob")
    for device in (foreign, "00000000-0000-4000-8000-000000000000", "nothing", "%2e%2e"):
        answer = await post(browser, f"/devices/{device}/{verb}", {"name": "mine"})
        assert code_of(answer) == (404, "unknown_device", None)
    with authority.client(timeout=PATIENCE) as client:
        [untouched] = client.devices("bob")
        assert (untouched.signed_in, untouched.display_name) == (True, "Bob's")


FOREIGN = [
    {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
    {"sec-fetch-site": "same-site", "origin": "https://www.app.example"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_requests_from_other_origins_are_refused(
    browser: httpx.AsyncClient, authority: FakeAuthority, headers: dict[str, str]
):
    [other] = add_devices(authority, [ClientInfo()])
    here = (await listed(browser))["devices"][0]["id"]
    for path in ("rename", "sign-out", "not-me"):
        for device in (here, other):
            answer = await post(browser, f"/devices/{device}/{path}", {"name": "x"}, headers)
            assert code_of(answer) == (403, "foreign_origin", None)
    for path in ("/sign-out", "/sign-out-others"):
        assert code_of(await post(browser, path, {}, headers)) == (403, "foreign_origin", None)
    told = await listed(browser)
    assert [device["signed_in"] for device in told["devices"]] == [True, True]


async def test_the_api_checks_the_origin_even_if_the_app_has_its_own_check(
    authority: FakeAuthority,
):
    async with signed_in(fastapi_app, authority, replace(FLOW, check_origin=False)) as browser:
        answer = await post(browser, "/sign-out-others", {}, FOREIGN[0])
        assert code_of(answer) == (403, "foreign_origin", None)
        assert (await browser.post("/sign-out", headers=FOREIGN[0])).status_code == 200


@pytest.mark.parametrize(
    ("path", "sent", "expected"),
    [
        ("/devices/ID/rename", {"json": {"name": "x" * 101}}, (400, "name_too_long", "name")),
        ("/devices/ID/rename", {"json": {"name": 7}}, (400, "bad_request", "name")),
        ("/devices/ID/rename", {"json": ["name"]}, (400, "bad_request", "name")),
        ("/devices/ID/rename", {"json": {"name": "\u200b\u200b"}}, (400, "bad_request", "name")),
        ("/devices/ID/rename", {"content": b'{"name": "\\ud800"}'}, (400, "bad_request", "name")),
        ("/devices/ID/rename", {"content": b"{"}, (400, "bad_request", None)),
        ("/devices/ID/rename", {"content": b"\xff"}, (400, "bad_request", None)),
        ("/devices/ID/rename", {"content": b"[" * 8000}, (400, "bad_request", None)),
        ("/devices/ID/rename", {"json": {"name": "x" * 9000}}, (413, "too_large", None)),
        ("/devices/ID/rename", {"data": {"name": "x"}}, (415, "unsupported_type", None)),
        ("/sign-out-others", {"data": {"name": "x"}}, (415, "unsupported_type", None)),
        ("/sign-out", {"content": b"x", "headers": {}}, (415, "unsupported_type", None)),
        ("/devices/ID/nothing", {"json": {}}, (404, "not_found", None)),
        ("/devices", {"json": {}}, (405, "method_not_allowed", None)),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_request_that_breaks_a_rule_is_refused(
    browser: httpx.AsyncClient,
    path: str,
    sent: dict[str, Any],
    expected: tuple[int, str, str | None],
):
    here = (await listed(browser))["devices"][0]["id"]
    headers = {"content-type": "application/json"} if "content" in sent else {}
    sent = {**sent, "headers": {**OWN, **sent.get("headers", headers)}}
    answer = await browser.post(f"{API}{path}".replace("ID", here), **sent)
    assert code_of(answer) == expected
    if expected[0] == 405:
        assert answer.headers["allow"] == "GET, HEAD"


async def test_an_unavailable_service_is_answered_503(
    browser: httpx.AsyncClient, authority: FakeAuthority
):
    with authority.unavailable():
        for answer in (
            await browser.get(f"{API}/devices"),
            await post(browser, "/sign-out-others"),
            await post(browser, "/sign-out"),
        ):
            assert code_of(answer) == (503, "unavailable", None)
            assert answer.headers["retry-after"] == "1"
            assert not set_cookies(answer)
    assert len((await listed(browser))["devices"]) == 1


CHECKS = ["ValidateSession", "BatchValidateSessions"]


@pytest.mark.parametrize("rpcs", [CHECKS, ["ListDevices"]], ids=["check", "list"])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
        (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN"),
        (grpc.StatusCode.UNIMPLEMENTED, ""),
    ],
    ids=str,
)
async def test_a_wrong_set_up_is_not_answered_as_an_outage(
    fast: httpx.AsyncClient,
    authority: FakeAuthority,
    caplog: pytest.LogCaptureFixture,
    rpcs: list[str],
    code: grpc.StatusCode,
    reason: str,
):
    """If the answer were that of an outage, a program would repeat its call for ever, although only
    another set-up helps.
    """
    with refusing(authority, rpcs, code, reason):
        for _ in range(3):
            answer = await fast.get(f"{API}/devices")
            assert code_of(answer) == (500, "misconfigured", None)
            assert "retry-after" not in answer.headers
        page = await fast.get(MOUNT, headers={"accept": "text/html"})
        assert (page.status_code, "not set up correctly" in page.text) == (500, True)
    [line] = [each for each in caplog.messages if "refuses" in each]
    assert (reason or code.name) in line


@pytest.mark.parametrize("rpcs", [CHECKS, ["ListDevices"]], ids=["check", "list"])
async def test_too_many_requests_are_answered_429(
    fast: httpx.AsyncClient, authority: FakeAuthority, rpcs: list[str]
):
    with refusing(authority, rpcs, grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"):
        answer = await fast.get(f"{API}/devices")
        assert code_of(answer) == (429, "too_many_requests", None)
        assert answer.headers["retry-after"] == "1"


async def test_a_caller_without_a_session_is_answered_401(authority: FakeAuthority):
    async with browser_of(fastapi_app(authority, FLOW)) as stranger:
        assert code_of(await stranger.get(f"{API}/devices")) == (401, "signed_out", None)
        for path in ("/sign-out", "/sign-out-others", "/devices/x/not-me"):
            assert code_of(await post(stranger, path)) == (401, "signed_out", None)


async def test_a_script_is_answered_401_and_not_sent_to_the_sign_in_page(authority: FakeAuthority):
    flow = replace(FLOW, sign_in_url="/sign-in")
    async with browser_of(fastapi_app(authority, flow)) as stranger:
        assert code_of(await stranger.get(f"{API}/devices")) == (401, "signed_out", None)


async def test_an_app_uses_the_api_with_its_bearer_token(authority: FakeAuthority):
    headers = authority.sign_in("ada")
    async with browser_of(fastapi_app(authority, FLOW)) as app:
        answer = await app.get(f"{API}/devices", headers=headers)
        assert [device["current"] for device in answer.json()["devices"]] == [True]
        answer = await post(app, "/sign-out", headers={**headers, **FOREIGN[0]})
        assert answer.json() == {"signed_out": 1}


async def test_alarms_are_listed_for_28_days(authority: FakeAuthority):
    async with signed_in(fastapi_app, authority) as browser:
        [other] = add_devices(authority, [ClientInfo(display_name="Laptop")])
        with authority.client(timeout=PATIENCE) as client:
            issued = client.issue_device("ada", device_id=other)
            authority.replay_tokens()
            client.validate_session(issued.access_token, other)
        await browser.post("/sign-in")
        told = await listed(browser)
        conforms(told, "DeviceList")
        [alarm] = told["alarms"]
        assert (alarm["device_id"], alarm["kind"]) == (other, "token_replayed")
        by_id = {device["id"]: device for device in told["devices"]}
        assert by_id[other]["alarm"] == alarm
        authority.pass_time(29 * DAY)
        await browser.post("/sign-in")
        told = await listed(browser)
        assert (told["alarms"], len(told["devices"])) == ([], 1)


async def test_a_thousand_devices_are_listed_in_pages_of_one_call_each(
    fast: httpx.AsyncClient, authority: FakeAuthority
):
    remember_devices(authority, 999, signed_out=100)
    found: list[Any] = []
    after = ""
    for _ in range(3):  # the remaining pages follow the same rules
        before = authority.calls["ListDevices"]
        told = await listed(fast, after)
        assert authority.calls["ListDevices"] == before + 1
        found, after = [*found, *told["devices"]], told["next"]
        assert after
    assert len({device["id"] for device in found}) == len(found) == 150
    states = [(device["current"], device["signed_in"]) for device in found]
    assert states == [(True, True)] + [(False, True)] * 149
    seen = [device["last_active_at"] for device in found]
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("after", ["x", "1.2.3", "3.1." + "0" * 36, "0", "1." + "9" * 30])
async def test_an_invalid_cursor_is_refused(fast: httpx.AsyncClient, after: str):
    answer = await fast.get(f"{API}/devices", params={"after": after})
    assert code_of(answer) == (400, "bad_request", "after")


async def test_hostile_texts_are_answered_as_text(
    browser: httpx.AsyncClient, authority: FakeAuthority
):
    add_devices(authority, [HOSTILE])
    answer = await browser.get(f"{API}/devices")
    shown = HOSTILE.display_name.replace("\u2028", " ")  # the service stores this name with a space
    assert answer.json()["devices"][1]["name"] == shown
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text.isascii()


async def test_an_answer_is_neither_cached_nor_readable_for_another_origin(
    browser: httpx.AsyncClient,
):
    for path in ("devices", "messages", "openapi.json", "nothing"):
        answer = await browser.get(f"{API}/{path}", headers={"origin": "https://evil.example"})
        assert answer.headers["cache-control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    head = await browser.head(f"{API}/devices")
    assert (head.status_code, head.content) == (200, b"")


async def test_texts_and_description_need_no_session(authority: FakeAuthority):
    async with browser_of(fastapi_app(authority, FLOW)) as stranger:
        told = (await stranger.get(f"{API}/messages")).json()
        conforms(told, "Messages")
        assert (told["language"], told["messages"]["title"]) == ("en", "Your devices")
        told = (await stranger.get(f"{API}/openapi.json")).json()
        assert told == openapi.document(MOUNT)
        assert told["servers"] == [{"url": MOUNT}]


def test_the_description_is_valid_and_complete():
    document = openapi.document("/devices")
    OpenAPIV31SpecValidator(document).validate()
    described = {
        (path.replace("{id}", "*").strip("/"), method.upper())
        for path, methods in document["paths"].items()
        for method in methods
    }
    api = {
        ("/".join(path), method)
        for path, methods in ROUTES.items()
        for method in methods
        if path[:1] == ("api",)
    }
    assert described == api
    codes = document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]
    assert set(codes["examples"]) == set(STATUS)


async def test_paths_outside_the_mount_belong_to_the_app(authority: FakeAuthority):
    async with signed_in(fastapi_app, authority, Flow(devices=DevicesPage(path="/d"))) as browser:
        assert (await browser.get("/devices")).json()[0]["current"] is True
        assert (await browser.get("/d/api/devices")).json()["devices"][0]["current"] is True


@pytest.mark.parametrize("name", sorted(APPS))
async def test_the_mount_is_the_path_that_browsers_see(authority: FakeAuthority, name: str):
    app = APPS[name](authority, Flow(devices=DevicesPage(path="/shop/devices")))
    outer: Any = DispatcherMiddleware(NotFound(), {"/shop": app})
    if isinstance(app, FastAPI):
        outer = FastAPI()
        outer.mount("/shop", app)
    async with browser_of(outer) as browser:
        await browser.post("/shop/sign-in", params={"user": "ada"})
        page = await browser.get("/shop/devices")
        assert (page.status_code, 'action="/shop/devices/rename"' in page.text) == (200, True)
        assert (await browser.get("/shop/devices/api/openapi.json")).status_code == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"path": "devices"},
        {"path": "/"},
        {"path": ""},
        {"path": "/devices/"},
        {"path": "//evil.example"},
        {"path": "/a/../b"},
        {"path": "/a?b"},
        {"secure_account_url": "javascript:alert(1)"},
        {"secure_account_url": "//evil.example"},
        {"secure_account_url": "http://id.example/password"},
        {"secure_account_url": "https://"},
        {"time_zone": "Europe/Berlim"},
        {"time_zone": "../UTC"},
        {"time_zone": "Europe"},
        {"time_zone": 1},
        {"messages": {"de": {"title": {"one": "x"}}}},
        {"messages": {"de": {"title": 7}}},
        {"messages": {"d/e": {"title": "x"}}},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, Any]):
    with pytest.raises(ValueError, match=r"must|no language"):
        DevicesPage(**settings)


BACK = "next=/devices/secure%3Fdone%3Dpassword"


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("/password", f"/password?{BACK}"),
        ("/account?tab=password#form", f"/account?tab=password&{BACK}#form"),
        ("/password?next=/account", "/password?next=/account"),
        ("https://id.example/password", "https://id.example/password"),
        (None, None),
    ],
)
def test_the_link_to_the_password_page_holds_the_way_back(url: str | None, link: str | None):
    assert DevicesPage(secure_account_url=url).password_url == link


def test_the_page_is_one_of_the_return_paths():
    assert FLOW.return_paths == (MOUNT,)
    assert replace(FLOW, bearer=False).return_paths == (MOUNT,)
    assert PAGE.serves(f"{MOUNT}?alarm=1")
    assert not PAGE.serves(f"{MOUNT}x")


def test_a_page_without_babel_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=re.escape("session-authority-client[devices]")):
        DevicesPage()
    assert Flow().devices is None


@pytest.mark.parametrize("devices", ["/devices", True, {}])
def test_the_flow_accepts_only_a_devices_page(devices: Any):
    with pytest.raises(TypeError, match="DevicesPage"):
        Flow(devices=devices)
