"""A sign-in leads to the page that the user wanted, and never to another origin."""

from __future__ import annotations

from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from client_tests.middleware_harness import APPS, Maker, browser_of
from client_tests.vectors import Case, cases_of, each
from session_authority_client import SessionStatus
from session_authority_client._shared.local_paths import next_in, with_next
from session_authority_client.flow import Flow, local_path
from session_authority_client.testing import FakeAuthority

TEXTS = [
    case.given["text"]
    for case in cases_of("next_paths")
    if case.given["operation"] == "local_path" and case.expected == {"path": "/"}
]
FOREIGN = [text for text in TEXTS if text != "/"]


@each("next_paths", "local_path")
def test_only_paths_of_this_origin_are_returned_to(case: Case):
    assert local_path(case.given["text"], case.given["default"]) == case.expected["path"]


@each("next_paths", "next_in")
def test_the_query_of_the_sign_in_page_names_the_path_to_return_to(case: Case):
    assert next_in(case.given["target"], case.given["default"]) == case.expected["path"]


@each("next_paths", "sign_in_location")
def test_the_url_of_the_sign_in_page_holds_the_path_to_return_to(case: Case):
    found = with_next(case.given["sign_in_url"], case.given["return_path"])
    assert found == case.expected["location"]


def as_browsers_read(text: str, base: str) -> str:
    """Returns the URL that a browser makes of a `Location`
    (https://url.spec.whatwg.org/#url-parsing).
    """
    stripped = text.strip("".join(map(chr, range(0x21))))
    for dropped in "\t\n\r":
        stripped = stripped.replace(dropped, "")
    return urljoin(base, stripped.replace("\\", "/"))


PIECES = (
    *("/", "//", "\\", ".", "..", "%2f", "%5c", "%2e", "%09", "%25", "\t", "\n", " ", "@", ":"),
    *("?", "#", "a", "https:", "elsewhere.example"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=8))
@example(["/", ".", "//", "elsewhere.example"])
def test_no_combination_of_pieces_leads_to_another_origin(parts: list[str]):
    found = local_path("".join(parts))
    for _ in range(3):
        url = urlsplit(as_browsers_read(found, "https://app.example/sign-in"))
        assert (url.scheme, url.netloc) == ("https", "app.example")
        assert not url.path.startswith("//")
        found = unquote(found)  # a server on the way may decode the path


@pytest.mark.parametrize("path", FOREIGN)
def test_a_redirect_to_the_sign_in_page_never_holds_another_origin(path: str):
    flow = Flow(sign_in_url="/sign-in")
    page = flow.presented("GET", {"sec-fetch-mode": ["navigate"]}, "", path)
    refused = flow.sign_in_required(page, SessionStatus.NO_SESSION)
    assert dict(refused.answer.headers)["Location"] == "/sign-in"
    assert local_path(path, "/home") == "/home"


@pytest.fixture(params=APPS)
def make(request: pytest.FixtureRequest) -> Maker:
    return APPS[request.param]


@pytest.mark.parametrize(
    "target", ["/me", "/me?a=b&c=%2F%C3%A9", "/me?next=https://elsewhere.example", "/me?a"]
)
async def test_a_sign_in_returns_to_the_page_that_needed_it(
    authority: FakeAuthority, make: Maker, target: str
):
    async with browser_of(make(authority, Flow(sign_in_url="/next"))) as browser:
        sent = await browser.get(target)
        assert (sent.status_code, sent.headers["location"]) == (
            303,
            f"/next?next={quote(target, safe='/')}",
        )
        page = await browser.get(sent.headers["location"])
        assert page.json() == target
        # the form has no `action`, so the browser sends it to its own URL
        form = await browser.post(sent.headers["location"])
        assert form.json() == target


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"next": ""},
        {"next": "//elsewhere.example"},
        {"next": "/\\elsewhere.example"},
        {"next": "https://elsewhere.example/"},
        {"next": ["/a", "/b"]},
        {f"a{n}": "" for n in range(200)} | {"next": "/a"},
    ],
)
async def test_without_a_path_of_this_origin_the_app_decides_where_to_go(
    authority: FakeAuthority, make: Maker, query: dict[str, str]
):
    async with browser_of(make(authority)) as browser:
        assert (await browser.get("/next", params=query)).json() == "/"
        mine = await browser.get("/next", params={**query, "default": "/home"})
        assert mine.json() == "/home"


async def test_a_request_that_a_get_can_not_repeat_is_not_returned_to(
    authority: FakeAuthority, make: Maker
):
    async with browser_of(make(authority, Flow(sign_in_url="/sign-in"))) as browser:
        headers = {"sec-fetch-mode": "navigate", "sec-fetch-site": "same-origin"}
        sent = await browser.post("/sign-out-everywhere", headers=headers)
        assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in")
