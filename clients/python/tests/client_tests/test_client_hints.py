"""Client hints: the headers that browsers send, malformed headers, the responses that ask for
hints, and the way of the hints to the service.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_tests.middleware_harness import APPS, PATIENCE, Maker, browser_of, talk_asgi
from session_authority_client import (
    ClientBrand,
    ClientHints,
    ClientInfo,
    SessionAuthority,
)
from session_authority_client._shared.client_hints import ACCEPT_CH, read_hints
from session_authority_client.testing import FakeAuthority

ALWAYS = {
    "sec-ch-ua": '"Chromium";v="148", "Google Chrome";v="148", "Not.A/Brand";v="8"',
    "sec-ch-ua-mobile": "?1",
    "sec-ch-ua-platform": '"Android"',
}
PHONE = {
    **ALWAYS,
    "sec-ch-ua-full-version-list": '"Chromium";v="148.0.7778.96", "Not.A/Brand";v="8.0.0.0"',
    "sec-ch-ua-platform-version": '"16.0.0"',
    "sec-ch-ua-model": '"Pixel 10 Pro"',
    "sec-ch-ua-form-factors": '"Mobile", "Tablet"',
}
HINTS = ClientHints(
    brands=(ClientBrand("Chromium", "148.0.7778.96"), ClientBrand("Not.A/Brand", "8.0.0.0")),
    platform="Android",
    platform_version="16.0.0",
    model="Pixel 10 Pro",
    mobile=True,
    form_factors=("Mobile", "Tablet"),
)


def read(headers: dict[str, str]) -> ClientHints | None:
    return read_hints({name: [text] for name, text in headers.items()})


# --- headers --------------------------------------------------------------------------------------


def test_all_headers_of_a_browser_are_read():
    assert read(PHONE) == HINTS


def test_headers_that_browsers_always_send_are_read():
    brands = (
        ClientBrand("Chromium", "148"),
        ClientBrand("Google Chrome", "148"),
        ClientBrand("Not.A/Brand", "8"),
    )
    assert read(ALWAYS) == ClientHints(brands=brands, platform="Android", mobile=True)


def test_a_request_without_hints_has_none():
    assert read({"user-agent": "Mozilla/5.0"}) is None
    assert read({"sec-ch-ua": "", "sec-ch-ua-model": '""'}) is None


@pytest.mark.parametrize(
    ("text", "brands"),
    [
        (r'"\"Not\\A;Brand";v="8"', [(r'"Not\A;Brand', "8")]),
        ('"(Not(A:Brand";v="8" , \t"A, B; C";v="1"', [("(Not(A:Brand", "8"), ("A, B; C", "1")]),
        ('"A"', [("A", "")]),
        ('"A";v', [("A", "")]),
        ('"A";x=1;v="2";y=?1;z=:YWI=:;w=tok/en', [("A", "2")]),
        ('"A";v="1";v="2"', [("A", "2")]),
        ('"A";v=8', [("A", "8")]),
        ('token, 12, "A"', [("A", "")]),
    ],
)
def test_lists_follow_the_rules_of_structured_fields(text: str, brands: list[tuple[str, str]]):
    found = read({"sec-ch-ua": text})
    assert found is not None
    assert [(brand.name, brand.version) for brand in found.brands] == brands


def test_a_list_may_come_in_several_lines():
    found = read_hints({"sec-ch-ua": ['"A";v="1"', '"B";v="2"']})
    assert found is not None
    assert [brand.name for brand in found.brands] == ["A", "B"]


@pytest.mark.parametrize(
    "text",
    [
        '"A";v="1",',
        ',"A"',
        '"A" "B"',
        '"A',
        r'"A\n"',
        '"A\x7f"',
        '"Ä"',
        '"A";V="1"',
        '"A";v=',
        '"A";v="1',
        "A;v=\"1\", 'B'",
        '("A")',
        '"A", ,"B"',
        '"' + "A" * 1100 + '"',
        '"A",' * 400 + '"A"',
        "\x00",
    ],
)
def test_a_malformed_header_is_ignored_and_the_other_headers_are_read(text: str):
    assert read({"sec-ch-ua": text}) is None
    found = read({**PHONE, "sec-ch-ua-full-version-list": text, "sec-ch-ua-model": text})
    assert found is not None
    assert found.model == ""
    assert [brand.version for brand in found.brands] == ["148", "148", "8"]
    assert found.platform_version == "16.0.0"


@pytest.mark.parametrize("text", ["1", "?2", "true", "??1", "?1, ?1", '"?1"', ""])
def test_a_malformed_boolean_is_ignored(text: str):
    assert read({"sec-ch-ua-mobile": text}) is None


@pytest.mark.parametrize("text", ["Android", "?1", '"A", "B"', "12"])
def test_a_platform_that_is_not_one_string_is_ignored(text: str):
    assert read({"sec-ch-ua-platform": text}) is None


@given(
    st.lists(
        st.text(st.characters(max_codepoint=255), max_size=40)
        | st.sampled_from(['"A"', ";v=", '"1"', ", ", "\\", '"', ";", "?1", ":", "=", " "]),
        max_size=30,
    )
)
def test_any_header_is_read_or_ignored(parts: list[str]):
    text = "".join(parts)
    found = read({"sec-ch-ua": text, "sec-ch-ua-model": text, "sec-ch-ua-form-factors": text})
    if found is not None:
        for said in (found.model, *found.form_factors, *(b.name for b in found.brands)):
            assert said.isascii()


# --- responses that ask for hints -----------------------------------------------------------------


@pytest.fixture
def client(authority: FakeAuthority) -> Iterator[SessionAuthority]:
    with authority.client(timeout=PATIENCE) as client:
        yield client


@pytest.fixture(params=APPS)
def make(request: pytest.FixtureRequest) -> Maker:
    return APPS[request.param]


async def test_middleware_asks_for_hints_on_secure_pages_only(
    make: Maker, authority: FakeAuthority
):
    async with browser_of(make(authority)) as browser:
        for path in ("/maybe", "/me"):
            assert (await browser.get(path)).headers.get_list("accept-ch") == [ACCEPT_CH]
        plain = await browser.get("http://app.example/maybe")
        script = await browser.get("/maybe", headers={"sec-fetch-mode": "cors"})
    assert "accept-ch" not in plain.headers
    assert "accept-ch" not in script.headers


async def test_an_app_may_ask_for_more_hints(authority: FakeAuthority):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"accept-ch", b"DPR")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    page = [(b"accept", b"text/html")]
    begun, _ = await talk_asgi(app, authority, scheme="https", headers=page)
    asked = [value for name, value in begun["headers"] if name == b"accept-ch"]
    assert asked == [b"DPR", ACCEPT_CH.encode()]


# --- the way of the hints to the service ----------------------------------------------------------


async def test_middleware_passes_hints_on(
    make: Maker, authority: FakeAuthority, client: SessionAuthority
):
    async with browser_of(make(authority)) as browser:
        await browser.post("/sign-in", headers=PHONE)
        (device,) = client.devices("ada")
        assert device.last_client.client_hints == HINTS
        malformed = {**PHONE, "sec-ch-ua-model": "Pixel", "sec-ch-ua-mobile": "yes"}
        await browser.post("/sign-in", headers=malformed)
        (device,) = client.devices("ada")
    assert device.last_client.client_hints == ClientHints(
        HINTS.brands, HINTS.platform, HINTS.platform_version, "", None, HINTS.form_factors
    )


def test_the_fake_service_stores_hints(client: SessionAuthority):
    told = ClientInfo(user_agent="Mozilla/5.0", client_hints=HINTS)
    assert client.issue_device("ada", client=told).device.last_client == told
    nothing = ClientInfo(client_hints=ClientHints())
    assert client.issue_device("bob", client=nothing).device.last_client == nothing


def test_hints_of_a_wrong_type_raise_an_error_that_names_them(client: SessionAuthority):
    wrong: Any = {"platform": "Android"}
    with pytest.raises(TypeError, match=r"client\.client_hints: a ClientHints, not dict"):
        client.issue_device("ada", client=ClientInfo(client_hints=wrong))
