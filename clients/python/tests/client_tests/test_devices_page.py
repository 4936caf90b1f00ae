"""The page of devices, as a browser without scripts uses it, in every kind of app."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser

import httpx
import pytest

from client_tests.devices_harness import (
    DAY,
    FLOW,
    MOUNT,
    OWN,
    PAGE,
    PASSWORD,
    add_devices,
    listed,
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
from session_authority_client.devices.assets import ELEMENT, STYLE, asset
from session_authority_client.flow import Flow
from session_authority_client.testing import FakeAuthority

HOSTILE = (
    "</title></style></script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "\" onmouseover=alert(1) x='",
    "{device}&lt;b&gt;&#60;\u202e\u2028",
)
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none';"
    " script-src 'sha256-HdQb8xIekG8eZE55yDjnBlLiaiRz4OpF9PNafLeTRis='"
)
NAVIGATES = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
FOREIGN = {**NAVIGATES, "sec-fetch-site": "cross-site", "origin": "https://evil.example"}
FORMS = ("rename", "sign-out", "not-me", "sign-out-others")


class Seen(HTMLParser):
    """A page as a browser reads it: its elements, and its text."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.elements: list[tuple[str, Mapping[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.names: list[str] = []
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        self.feed(answer.text)
        assert self.open == [], "an element has no end"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)
        if tag in ("button", "summary", "a"):
            self.names.append(dict(attrs).get("aria-label") or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] in ("button", "summary", "a") and not self.names[-1]:
            self.names[-1] = data

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, tag: str) -> list[Mapping[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


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
    async with signed_in(fastapi_app, authority) as browser:
        yield browser


async def seen(browser: httpx.AsyncClient, path: str = "", **query: str) -> Seen:
    answer = await browser.get(f"{MOUNT}{path}", params=query)
    assert answer.status_code == 200, answer.text
    return Seen(answer)


async def send(browser: httpx.AsyncClient, form: str, **fields: str) -> httpx.Response:
    return await browser.post(f"{MOUNT}/{form}", data=fields, headers={**OWN, **NAVIGATES})


async def follow(browser: httpx.AsyncClient, answer: httpx.Response) -> Seen:
    assert (answer.status_code, answer.content) == (303, b"")
    shown = await browser.get(answer.headers["location"])
    assert shown.status_code == 200
    return Seen(shown)


async def test_the_page_lists_the_devices(browser: httpx.AsyncClient, authority: FakeAuthority):
    phone = ClientInfo("198.51.100.7", display_name="Phone", place=Place("Berlin", "DE"))
    add_devices(authority, [phone])
    page = await seen(browser)
    assert "Phone" in page.text
    assert "Active now · Berlin, Germany · 198.51.100.7" in page.text
    assert re.search(r"Signed in just now with password", page.text)
    assert page.text.index("This device") < page.text.index("Phone")
    [title] = page.all("html")
    assert title == {"lang": "en", "dir": "ltr"}
    for time in page.all("time"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time["datetime"])
        assert time["title"].endswith("UTC")
        assert time["tabindex"] == "0"


async def test_the_first_paint_costs_one_call(fast: httpx.AsyncClient, authority: FakeAuthority):
    add_devices(authority, [ClientInfo()] * 10)
    before = authority.calls.copy()
    await seen(fast)
    made = authority.calls - before
    made.pop("ValidateSession", None)
    made.pop("BatchValidateSessions", None)
    assert made == {"ListDevices": 1}


async def test_no_two_buttons_have_the_same_name(fast: httpx.AsyncClient, authority: FakeAuthority):
    ids = add_devices(authority, [ClientInfo(display_name="Phone")] * 3 + [ClientInfo()])
    with authority.client(timeout=PATIENCE) as client:
        client.revoke_device("ada", ids[0])
    page = await seen(fast)
    assert "Sign out Phone" in page.names
    assert "Sign out Phone (2)" in page.names
    assert len(set(page.names)) == len(page.names) >= 15
    assert len({each["id"] for _, each in page.elements if "id" in each}) == len(
        [each for _, each in page.elements if "id" in each]
    )


async def test_the_page_loads_nothing_but_its_own_files(browser: httpx.AsyncClient):
    for path in ("", "/sign-out-others", "/secure", "/nothing"):
        answer = await browser.get(f"{MOUNT}{path}")
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["cache-control"] == "no-store"
        page = Seen(answer)
        style = asset(STYLE)
        assert style is not None
        assert [link["href"] for link in page.all("link")] == ["data:,", style.url(MOUNT)]
        used = {name for name, _ in page.elements} | {
            key for _, attributes in page.elements for key in attributes
        }
        assert not used & {"style", "img", "iframe", "onclick", "src"}
        assert page.all("script") == [{}]  # the policy has its hash


async def test_a_file_is_cached_for_good_only_under_the_url_of_its_contents(
    browser: httpx.AsyncClient,
):
    style = asset(STYLE)
    assert style is not None
    answer = await browser.get(style.url(MOUNT))
    assert (answer.status_code, answer.content) == (200, style.body)
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    other = await browser.get(f"{MOUNT}/static/{STYLE}?v=other")
    assert other.headers["cache-control"] == "no-cache"
    for name in ("..%2f__init__.py", "nothing.css", "", "%2e%2e/settings.py"):
        assert (await browser.get(f"{MOUNT}/static/{name}")).status_code == 404


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_texts_are_shown_as_they_are(
    fast: httpx.AsyncClient, authority: FakeAuthority, text: str
):
    hostile = ClientInfo(
        ip_address=text, user_agent=text, display_name=text, place=Place(text, "DE")
    )
    with authority.client(timeout=PATIENCE) as client:
        issued = client.issue_device("ada", client=hostile)
    elements = {name for name, _ in (await seen(fast)).elements}
    device = issued.device.device_id
    kept = "".join(letter for letter in text if letter.isprintable())
    for page in (await seen(fast), await seen(fast, "/not-me", device=device)):
        assert kept in page.text
        assert {name for name, _ in page.elements} <= elements
        assert not [each for _, each in page.elements if any(key[:2] == "on" for key in each)]
    page = await seen(fast)
    assert kept in {field.get("value") for field in page.all("input")}
    assert page.text.count(kept) >= 3
    assert not elements & {"img", "b"}
    assert page.all("script") == [{}]
    after = await follow(fast, await send(fast, "rename", device=device, name=text))
    assert f"The device is now called {kept}." in after.text


@pytest.mark.parametrize("query", ["done", "device", "after", "alarm", "count", "x"])
async def test_a_query_puts_no_text_of_its_own_into_the_page(fast: httpx.AsyncClient, query: str):
    for text in HOSTILE:
        answer = await fast.get(MOUNT, params={query: text})
        assert "alert(1)" not in answer.text
        assert answer.status_code == (400 if query == "after" else 200)


MANY = "&".join(f"f{number}=x" for number in range(20))


@pytest.mark.parametrize(
    "query", [f"alarm=e1&{MANY}", f"{MANY}&after=x", "alarm=%ff", "x=%C3", "%fe=1"]
)
@pytest.mark.parametrize("path", ["", "/api/devices", "/secure", "/not-me", "/api/messages"])
async def test_a_query_that_is_not_understood_is_refused(
    fast: httpx.AsyncClient, path: str, query: str
):
    """Reading only a part of a query would answer another one: a page without the alarm that the
    mail was about.
    """
    answer = await fast.get(f"{MOUNT}{path}?{query}")
    assert answer.status_code == 400
    assert "This was not understood." in answer.text


@pytest.mark.parametrize("body", ["name=%ff", "name=J%C3", "name=%ED%A0%80", "%ff=x", MANY])
async def test_a_form_that_is_not_understood_changes_nothing(
    browser: httpx.AsyncClient, authority: FakeAuthority, body: str
):
    [device] = add_devices(authority, [ClientInfo(display_name="Phone")])
    kind = {"content-type": "application/x-www-form-urlencoded"}
    for form in ("rename", "sign-out", "not-me"):  # the other form has no fields
        answer = await browser.post(
            f"{MOUNT}/{form}", content=f"device={device}&{body}", headers={**OWN, **kind}
        )
        assert answer.status_code == 400
    there = (await listed(browser))["devices"][1]
    assert (there["name"], there["signed_in"]) == ("Phone", True)


async def test_a_device_is_renamed_in_place(browser: httpx.AsyncClient, authority: FakeAuthority):
    [device] = add_devices(authority, [ClientInfo()])
    answer = await send(browser, "rename", device=device, name=" Sami's  phone ")
    page = await follow(browser, answer)
    assert "The device is now called Sami's phone." in page.text
    assert "Sign out Sami's phone" in page.names
    page = await follow(browser, await send(browser, "rename", device=device, name=""))
    assert "own name was removed" in page.text
    assert "Sign out Sami's phone" not in page.names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ('<b>"' * 30, "The name is too long. It may have at most 100 characters."),
        ("\u200b\u200b", "This was not understood."),
    ],
)
async def test_a_refused_name_can_be_corrected(
    browser: httpx.AsyncClient, authority: FakeAuthority, name: str, text: str
):
    [device] = add_devices(authority, [ClientInfo(display_name="Phone")])
    answer = await send(browser, "rename", device=device, name=name)
    page = Seen(answer)
    assert (answer.status_code, text in page.text) == (400, True)
    fields = {field["name"]: field for field in page.all("input")}
    assert {key: field["value"] for key, field in fields.items()} == {
        "device": device,
        "name": name,
    }
    described = set(fields["name"]["aria-describedby"].split())
    assert described == {each["id"] for _, each in page.elements if "id" in each} - {"name"}
    assert [label["for"] for label in page.all("label")] == [fields["name"]["id"]]
    [form] = page.all("form")
    assert form["action"] == f"{MOUNT}/rename"
    assert page.names == ["Save", "Cancel"]
    await follow(browser, await send(browser, "rename", device=device, name="Mine"))


async def test_an_outage_keeps_the_name_that_was_typed(
    browser: httpx.AsyncClient, authority: FakeAuthority
):
    [device] = add_devices(authority, [ClientInfo()])
    with authority.unavailable():
        answer = await send(browser, "rename", device=device, name="Mine")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    page = Seen(answer)
    assert "Your devices can’t be reached just now." in page.text
    assert "Mine" in [field["value"] for field in page.all("input")]


async def test_a_device_is_signed_out(browser: httpx.AsyncClient, authority: FakeAuthority):
    [device] = add_devices(authority, [ClientInfo(display_name="Phone")])
    page = await follow(browser, await send(browser, "sign-out", device=device))
    assert "Phone is signed out." in page.text
    assert "Signed out in the last 28 days (1)" in page.names
    assert {"Sign out Phone", "Rename Phone"}.isdisjoint(page.names)
    assert "That wasn’t me: Phone" in page.names
    assert page.text.count("Signed in ") == 1, "this device alone is signed in"
    assert "No other device is signed in." in page.text


async def test_a_notice_that_contradicts_the_list_is_not_shown(
    fast: httpx.AsyncClient, authority: FakeAuthority
):
    [device] = add_devices(authority, [ClientInfo(display_name="Phone")])
    for query in (
        {"done": "signed_out", "device": device},
        {"done": "others", "count": "3"},
        {"done": "renamed", "device": "x"},
        {"done": "nothing"},
    ):
        assert 'role="status"' not in (await fast.get(MOUNT, params=query)).text
    for named in (device, "x", ""):
        page = await seen(fast, "/secure", device=named)
        assert "Secure your account" in page.text
        assert "signed out" not in page.text


async def test_all_other_devices_are_signed_out_after_a_confirmation(
    browser: httpx.AsyncClient, authority: FakeAuthority
):
    add_devices(authority, [ClientInfo()] * 2)
    assert "Sign out all other devices" in (await seen(browser)).names
    page = await seen(browser, "/sign-out-others")
    assert page.names == ["Sign out all others", "Cancel"]
    assert len((await listed(browser))["devices"]) == 3
    page = await follow(browser, await send(browser, "sign-out-others"))
    assert "2 other devices were signed out." in page.text
    page = await follow(browser, await send(browser, "sign-out-others"))
    assert "No other device was signed in." in page.text


async def test_not_me_signs_a_device_out_and_offers_the_password_page(
    browser: httpx.AsyncClient, authority: FakeAuthority
):
    [device, _] = add_devices(authority, [ClientInfo(display_name="Phone"), ClientInfo()])
    page = await seen(browser, "/not-me", device=device)
    assert page.names == ["Sign this device out", "Cancel"]
    page = await follow(browser, await send(browser, "not-me", device=device))
    assert "The device is signed out and no longer in your list." in page.text
    assert page.names == [
        *("Change your password", "Sign out all other devices", "Back to your devices")
    ]
    assert [link["href"] for link in page.all("a")] == [PASSWORD, MOUNT]
    assert authority._service.state.events[-1].reason == "not_me"
    page = await seen(browser, "/secure", done="password")
    assert "To be safe, sign out all other devices too." in page.text
    assert page.names == ["Sign out all other devices", "Back to your devices"]
    assert "Phone" not in (await seen(browser)).text
    page = await follow(browser, await send(browser, "sign-out-others"))
    assert "1 other device was signed out." in page.text
    page = await seen(browser, "/secure", done="password")
    assert "No other device is signed in." in page.text
    assert page.names == ["Back to your devices"]


async def test_without_a_password_page_only_the_sign_out_of_the_others_is_offered(
    authority: FakeAuthority,
):
    flow = Flow(devices=replace(PAGE, secure_account_url=None))
    async with signed_in(fastapi_app, authority, flow) as browser:
        add_devices(authority, [ClientInfo()])
        page = await seen(browser, "/secure")
        assert page.names == ["Sign out all other devices", "Back to your devices"]


async def test_this_device_is_signed_out_with_its_cookies(authority: FakeAuthority):
    flow = replace(FLOW, sign_in_url="/sign-in")
    async with signed_in(fastapi_app, authority, flow) as browser:
        here = (await listed(browser))["devices"][0]["id"]
        answer = await send(browser, "sign-out", device=here)
        assert "Max-Age=0" in set_cookies(answer)[TOKEN]
        answer = await browser.get(answer.headers["location"])
        assert answer.headers["location"].startswith(f"/sign-in?next={MOUNT}")
        for form in FORMS:
            again = await send(browser, form, device=here)
            assert (again.status_code, again.headers["location"]) == (303, "/sign-in")


async def test_no_form_redirects_to_another_origin(authority: FakeAuthority):
    """Because of `form-action`, browsers let a form lead to this origin only, redirects
    included.
    """
    flow = replace(FLOW, sign_in_url="https://id.example/sign-in")
    async with signed_in(fastapi_app, authority, flow) as browser:
        here = (await listed(browser))["devices"][0]["id"]
        out = await send(browser, "sign-out", device=here)
        assert "Max-Age=0" in set_cookies(out)[TOKEN]
        for answer in (out, await send(browser, "rename", device=here)):
            assert (answer.status_code, "location" in answer.headers) == (401, False)
            assert "You are signed out." in Seen(answer).text
            assert [link["href"] for link in Seen(answer).all("a")] == [MOUNT]
        page = await browser.get(MOUNT, headers=NAVIGATES)
        assert page.headers["location"] == "https://id.example/sign-in"


async def test_a_user_without_a_session_sees_no_devices(authority: FakeAuthority):
    async with browser_of(fastapi_app(authority, FLOW)) as stranger:
        answer = await stranger.get(MOUNT)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        page = Seen(answer)
        assert "Your devicesYou are signed out.Sign in to see your devices." in page.text
        assert "That did not work" not in page.text
        assert page.names == [], "a link would lead back to this answer"


@pytest.mark.parametrize("form", FORMS)
async def test_forms_from_other_origins_are_refused(
    browser: httpx.AsyncClient, authority: FakeAuthority, form: str
):
    [device] = add_devices(authority, [ClientInfo(display_name="Phone")])
    answer = await browser.post(
        f"{MOUNT}/{form}", data={"device": device, "name": "x"}, headers=FOREIGN
    )
    assert answer.status_code == 403
    assert "came from another site" in Seen(answer).text
    told = await listed(browser)
    assert [each["signed_in"] for each in told["devices"]] == [True, True]
    assert told["devices"][1]["name"] == "Phone"


@pytest.mark.parametrize("form", ["rename", "sign-out", "not-me"])
async def test_a_device_of_another_user_is_unknown(
    browser: httpx.AsyncClient, authority: FakeAuthority, form: str
):
    [foreign] = add_devices(authority, [ClientInfo(display_name="Bob's")], user="bob")
    for device in (foreign, "", "x"):
        answer = await send(browser, form, device=device, name="mine")
        assert answer.status_code == 404
        assert "You have no such device." in Seen(answer).text
    assert (await browser.get(f"{MOUNT}/not-me", params={"device": foreign})).status_code == 404
    with authority.client(timeout=PATIENCE) as client:
        [untouched] = client.devices("bob")
        assert (untouched.signed_in, untouched.display_name) == (True, "Bob's")


async def test_errors_look_like_the_page(browser: httpx.AsyncClient, authority: FakeAuthority):
    [device] = add_devices(authority, [ClientInfo()])
    json = await browser.post(f"{MOUNT}/rename", json={"device": device}, headers=OWN)
    large = await send(browser, "rename", device=device, name="x" * 9000)
    nothing = await browser.get(f"{MOUNT}/nothing")
    method = await browser.get(f"{MOUNT}/rename")
    answers = (json, large, nothing, method)
    assert [answer.status_code for answer in answers] == [415, 413, 404, 405]
    for answer in answers:
        assert Seen(answer).names == ["Back to your devices"]
    with authority.unavailable():
        for away in (await browser.get(MOUNT), await send(browser, "sign-out", device=device)):
            assert (away.status_code, away.headers["retry-after"]) == (503, "1")
            assert Seen(away).names == ["Try again"]
            assert not set_cookies(away)


async def test_many_devices_are_shown_page_by_page(
    fast: httpx.AsyncClient, authority: FakeAuthority
):
    remember_devices(authority, 120, signed_out=60)
    found, url, pages = 0, MOUNT, 0
    while url:
        page = Seen(await fast.get(url))
        found += sum(each.get("class", "").startswith("device ") for each in page.all("li"))
        found += sum(each.get("class", "") == "device" for each in page.all("li"))
        more = [link["href"] for link in page.all("a") if "after=" in link["href"]]
        url, pages = "".join(more), pages + 1
    assert (found, pages) == (121, 3)
    assert "Back to the first devices" in page.names
    assert page.text.count("Signed out in the last 28 days (60)") == 1


async def test_an_alarm_is_shown_for_28_days(authority: FakeAuthority):
    async with signed_in(fastapi_app, authority) as browser:
        thief = dict(browser.cookies)
        authority.replay_tokens()
        await browser.get(MOUNT)
        assert thief
        await browser.post("/sign-in")
        page = await seen(browser)
        assert "Security alarm" in page.text
        assert "Somebody used a copy of your sign-in on Device (2) just now." in page.text
        assert PASSWORD in {link["href"] for link in page.all("a")}
        authority.pass_time(29 * DAY)
        await browser.post("/sign-in")
        assert "Security alarm" not in (await seen(browser)).text


@pytest.mark.parametrize(
    ("language", "direction", "text"),
    [
        ("de-CH, en;q=0.5", "ltr", "Ihre Geräte"),
        ("ar", "rtl", "أجهزتك"),
        ("ja", "ltr", "Your devices"),
    ],
)
async def test_the_page_speaks_the_language_of_the_reader(
    fast: httpx.AsyncClient, language: str, direction: str, text: str
):
    answer = await fast.get(MOUNT, headers={"accept-language": language})
    page = Seen(answer)
    assert text in page.text
    assert page.all("html")[0]["dir"] == direction


async def test_exact_times_are_in_the_time_zone_that_the_app_names(authority: FakeAuthority):
    flow = Flow(devices=replace(PAGE, time_zone="Asia/Tokyo"))
    async with signed_in(fastapi_app, authority, flow) as browser:
        times = (await seen(browser)).all("time")
        assert times
        for time in times:
            assert time["title"].endswith("GMT+09:00")
            assert time["datetime"].endswith("Z")


async def test_a_link_in_a_mail_leads_to_the_page_through_a_page_that_repeats_the_request(
    authority: FakeAuthority,
):
    async with signed_in(fastapi_app, authority) as browser:
        cookies = dict(browser.cookies)
        browser.cookies.clear()
        from_mail = {**NAVIGATES, "sec-fetch-site": "cross-site"}
        answer = await browser.get(f"{MOUNT}?alarm=1", headers=from_mail)
        assert (answer.status_code, "Go on" in answer.text) == (200, True)
        assert cookies


async def test_the_element_is_loaded_only_where_the_app_wants_it(authority: FakeAuthority):
    flow = Flow(devices=replace(PAGE, scripted=True))
    element = asset(ELEMENT)
    async with signed_in(fastapi_app, authority, flow) as browser:
        answer = await browser.get(MOUNT, params={"alarm": "e1"})
        own, *scripts = Seen(answer).all("script")
        assert own == {}
        assert len(scripts) == (element is not None)
        wanted = {"src": MOUNT, "language": "en", "alarm": "e1", "sign-in": MOUNT}
        assert Seen(answer).all("session-devices") == ([] if element is None else [wanted])
        for script in scripts:
            assert element is not None
            assert script["src"] == element.url(MOUNT)
            assert script["integrity"] == element.integrity
            assert "' 'self'; connect-src 'self'" in answer.headers["content-security-policy"]
