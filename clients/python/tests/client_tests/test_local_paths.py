"""Where a sign-in leads: to the page that the user wanted, and never to another origin."""

from __future__ import annotations

from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from client_tests.middleware_harness import APPS, Maker, browser_of
from session_authority_client import SessionStatus
from session_authority_client._shared.local_paths import with_next
from session_authority_client.flow import Flow, local_path
from session_authority_client.testing import FakeAuthority

LOCAL = [
    "/",
    "/devices",
    "/devices/",
    "/a/b?c=d&e=//f#g",
    "/caf%C3%A9/%E2%9C%93",
    "/my%20file",
    "/a//b",
    "/a%2Fb",
    "/a/../b",
    "/.well-known/x",
    "/..",
    "/search?q=https://elsewhere.example/",
    "/search?q=a%0Ab&back=%5C%5Cx",
    "/@elsewhere.example",
    "/a:b@c",
    "/:80",
    "/100%",
    "/%25",
    "/" + "a" * 1999,
]
FOREIGN = [
    "",
    " ",
    "devices",
    "?a=b",
    "#a",
    ".",
    "./a",
    "../a",
    "elsewhere.example",
    "https://elsewhere.example",
    "https:elsewhere.example",
    "https:/elsewhere.example",
    "https:///elsewhere.example",
    "http:\\\\elsewhere.example",
    "HTTPS://elsewhere.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "blob:x",
    "//elsewhere.example",
    "///elsewhere.example",
    "////elsewhere.example",
    "//elsewhere.example/%2f..",
    "//elsewhere.example\\@app.example",
    "//app.example@elsewhere.example",
    "//",
    "//.",
    "//..",
    "//./a",
    "///",
    "/\\elsewhere.example",
    "\\/elsewhere.example",
    "\\\\elsewhere.example",
    "/\\/elsewhere.example",
    "\\elsewhere.example",
    "/a\\b",
    "/a/..\\..//elsewhere.example",
    " //elsewhere.example",
    "\t//elsewhere.example",
    "\n/a",
    "/a\n",
    "/\t/elsewhere.example",
    "/\n/elsewhere.example",
    "/\r\n/elsewhere.example",
    "/a\r\nSet-Cookie: b=c",
    "/\x00/elsewhere.example",
    "/\x7f/elsewhere.example",
    "/ /elsewhere.example",
    "/./" + "/elsewhere.example",
    "/.//elsewhere.example",
    "/a/..//elsewhere.example",
    "/a/b/../..//elsewhere.example",
    "/..//elsewhere.example",
    "/%2e//elsewhere.example",
    "/%2E%2e//elsewhere.example",
    "/a/.%2e//elsewhere.example",
    "/%2felsewhere.example",
    "/%2F%2Felsewhere.example",
    "%2F%2Felsewhere.example",
    "/%252felsewhere.example",
    "/%25252felsewhere.example",
    "/%2525252525252felsewhere.example",
    "/%5celsewhere.example",
    "/%5C%5Celsewhere.example",
    "/%255celsewhere.example",
    "/%09/elsewhere.example",
    "/%0a/elsewhere.example",
    "/%0d%0aSet-Cookie:%20b=c",
    "/%00/elsewhere.example",
    "/%2509/elsewhere.example",
    "/%C2%85/elsewhere.example",
    "/%E2%80%A8/elsewhere.example",
    "/a%2F..%2F%2Felsewhere.example",
    "/\uff0felsewhere.example",
    "\uff0f\uff0felsewhere.example",
    "/%EF%BC%8Felsewhere.example",
    "/%EF%BC%BCelsewhere.example",
    "/caf\u00e9",
    "/\u2028/elsewhere.example",
    "/\u3000/elsewhere.example",
    "/" + "a" * 2000,
]


@pytest.mark.parametrize("path", LOCAL)
def test_a_path_of_this_origin_is_returned_to(path: str):
    assert local_path(path) == path


@pytest.mark.parametrize("path", FOREIGN)
def test_no_spelling_leads_to_another_origin(path: str):
    assert local_path(path) == "/"
    assert local_path(path, "/home") == "/home"


def as_browsers_read(text: str, base: str) -> str:
    """The URL that a browser makes of a `Location` (https://url.spec.whatwg.org/#url-parsing)."""
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
def test_whatever_is_put_together_stays_here(parts: list[str]):
    found = local_path("".join(parts))
    for _ in range(3):
        url = urlsplit(as_browsers_read(found, "https://app.example/sign-in"))
        assert (url.scheme, url.netloc) == ("https", "app.example")
        assert not url.path.startswith("//")
        found = unquote(found)  # as a server on the way may


@pytest.mark.parametrize(
    ("url", "path", "made"),
    [
        ("/sign-in", "/a?b=c&d=%2F", "/sign-in?next=/a%3Fb%3Dc%26d%3D%252F"),
        ("/sign-in?lang=de#form", "/a", "/sign-in?lang=de&next=/a#form"),
        ("sign-in", "/a", "sign-in?next=/a"),
        ("/sign-in", "", "/sign-in"),
        ("/sign-in", "/sign-in?a=b", "/sign-in"),
        ("/sign-in?next=/home", "/a", "/sign-in?next=/home"),
        ("https://id.example/sign-in", "/a", "https://id.example/sign-in"),
        ("//id.example/sign-in", "/a", "//id.example/sign-in"),
    ],
)
def test_the_sign_in_page_is_told_where_to_return(url: str, path: str, made: str):
    assert with_next(url, path) == made


@pytest.mark.parametrize("path", FOREIGN)
def test_the_redirect_itself_tells_no_other_origin(path: str):
    flow = Flow(sign_in_url="/sign-in")
    page = flow.presented("GET", {"sec-fetch-mode": ["navigate"]}, "", path)
    refused = flow.sign_in_required(page, SessionStatus.NO_SESSION)
    assert dict(refused.answer.headers)["Location"] == "/sign-in"


@pytest.fixture(params=APPS)
def make(request: pytest.FixtureRequest) -> Maker:
    return APPS[request.param]


@pytest.mark.parametrize(
    "target", ["/me", "/me?a=b&c=%2F%C3%A9", "/me?next=https://elsewhere.example", "/me?a"]
)
async def test_a_page_that_needs_a_sign_in_is_returned_to(
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
        form = await browser.post(sent.headers["location"])  # which has no `action`
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
async def test_without_such_a_path_the_app_decides(
    authority: FakeAuthority, make: Maker, query: dict[str, str]
):
    async with browser_of(make(authority)) as browser:
        assert (await browser.get("/next", params=query)).json() == "/"
        mine = await browser.get("/next", params={**query, "default": "/home"})
        assert mine.json() == "/home"


async def test_what_a_get_can_not_repeat_is_not_returned_to(authority: FakeAuthority, make: Maker):
    async with browser_of(make(authority, Flow(sign_in_url="/sign-in"))) as browser:
        headers = {"sec-fetch-mode": "navigate", "sec-fetch-site": "same-origin"}
        sent = await browser.post("/sign-out-everywhere", headers=headers)
        assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in")
