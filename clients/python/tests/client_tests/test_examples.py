"""The examples with pages, served by the README's own commands, and used as a person with two
browsers would use them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta

import httpx
import pytest

from client_tests.readme import EXAMPLES, PATIENCE, PROJECT, example, served
from session_authority_client import SessionAuthority
from session_authority_client.testing import FakeAuthority

NAMES = sorted(EXAMPLES)
Browse = Callable[[], AbstractContextManager[httpx.Client]]


def source(name: str) -> str:
    return (PROJECT / "examples" / f"{name}_app.py").read_text()


@pytest.fixture(scope="module")
def running() -> Iterator[FakeAuthority]:
    with FakeAuthority() as authority:
        yield authority


@pytest.fixture
def authority(running: FakeAuthority) -> FakeAuthority:
    running.reset()
    return running


@pytest.fixture(scope="module", params=NAMES)
def url(
    request: pytest.FixtureRequest, running: FakeAuthority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of each example, in turn."""
    folder = tmp_path_factory.mktemp("served")
    with served(request.param, example(request.param), folder, running.address) as port:
        yield f"http://localhost:{port}"


def opened(url: str) -> httpx.Client:
    return httpx.Client(
        base_url=url,
        headers={"Accept": "text/html"},
        follow_redirects=True,
        timeout=PATIENCE,
    )


@pytest.fixture
def browser(url: str) -> Iterator[httpx.Client]:
    with opened(url) as client:
        yield client


another = browser


def test_each_example_is_tested():
    assert {path.stem for path in (PROJECT / "examples").glob("*.py")} == {
        f"{name}_app" for name in (*EXAMPLES, "grpc")
    }


def test_all_examples_have_the_same_page_and_say_where_the_app_proves_who_it_is():
    pages = {re.search(r'PAGE = """(.*?)"""', source(name), re.DOTALL) for name in NAMES}
    assert len({page[1] for page in pages if page}) == 1
    for name in NAMES:
        assert "# Your own check of the user goes here" in source(name)
        assert "The app's own proof goes here" in source(name)


def test_my_devices(authority: FakeAuthority, url: str):
    with opened(url) as laptop, opened(url) as phone:
        assert laptop.get("/").url.path == "/sign-in"
        for browser in (laptop, phone):
            page = browser.post("/sign-in", data={"user": " <ada> "})
            assert page.url.path == "/"
            assert page.headers["cache-control"] == "no-store"
            assert "<h1>Hello &lt;ada&gt;</h1>" in page.text
        listed = phone.get("/devices").text
        assert listed.count("This device") == 1
        mine = phone.cookies["device"]
        (elsewhere,) = set(re.findall(r'value="([0-9a-f-]{36})"', listed)) - {mine}
        done = phone.post("/devices/sign-out", data={"device": elsewhere})
        assert "Device (2)</bdi> is signed out." in done.text
        assert laptop.get("/").url.path == "/sign-in"
        laptop.post("/sign-in", data={"user": "<ada>"})
        assert laptop.cookies["device"] == elsewhere  # the laptop is still the same device
        authority.expire_tokens()
        others = phone.post("/devices/sign-out-others", data={"x": ""})
        assert "1 other device was signed out." in others.text
        assert laptop.get("/").url.path == "/sign-in"
        with authority.unavailable():
            assert phone.get("/devices").status_code == phone.get("/password").status_code == 503
        secure = phone.get("/devices/secure")
        assert 'href="/password?next=/devices/secure' in secure.text
        back = "/devices/secure?done=password"
        changed = phone.post("/password", params={"next": back}, data={"password": "x"})
        assert changed.url.path == "/devices/secure"
        assert phone.post("/devices/sign-out", data={"device": mine}).url.path == "/sign-in"
        assert list(phone.cookies) == ["device"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (
            "\u202ea<",
            "must have no control or other unprintable characters, and no white space at the ends",
        ),
        (" ", "must not be empty"),
        ("a" * 256, "must have at most 255 characters"),
    ],
)
def test_a_bad_name_is_explained_on_the_form(browser: httpx.Client, name: str, problem: str):
    page = browser.post("/sign-in", data={"user": name})
    assert (page.status_code, page.url.path, dict(browser.cookies)) == (400, "/sign-in", {})
    assert f"The name {problem}" in page.text
    assert f'value="{name.strip().replace("<", "&lt;")}"' in page.text


@pytest.mark.parametrize("body", [b"", b"user", b"user=%ff%00", b"\xff\xfe"])
def test_a_body_that_is_no_form_is_answered_400(browser: httpx.Client, body: bytes):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert browser.post("/sign-in", content=body, headers=form).status_code == 400


def test_a_sign_in_leads_to_the_page_that_the_user_wanted(browser: httpx.Client):
    wanted = "/?done=password"
    form = browser.get(wanted)
    assert form.url.path == "/sign-in"
    assert '<form method="post">' in form.text  # the form is sent to its own URL, with the query
    page = browser.post(form.url, data={"user": "ada"})
    assert (page.url.raw_path.decode(), page.status_code) == (wanted, 200)
    elsewhere = browser.post("/sign-in?next=//elsewhere.example/", data={"user": "ada"})
    assert elsewhere.url.raw_path == b"/"


def test_a_new_password_needs_a_recent_sign_in(authority: FakeAuthority, browser: httpx.Client):
    form = browser.get("/password")
    assert "sign in again" not in form.text  # no user is signed in yet
    assert "<h1>New password</h1>" in browser.post(form.url, data={"user": "ada"}).text
    device = browser.cookies["device"]
    authority.pass_time(timedelta(minutes=10))
    navigates = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
    for method in ("POST", "GET"):
        again = browser.request(method, "/password", headers=navigates)
        assert (again.url.path, again.url.params["reason"]) == ("/sign-in", "step_up")
        assert "To go on, sign in again." in again.text
        assert 'value="ada"' in again.text
        assert "Hello ada" in browser.get("/").text  # the user gives up, and is still signed in
    page = browser.post(again.url, data={"user": "ada"})
    assert (page.url.path, "The new password of ada" in page.text) == ("/password", True)
    typed = {"password": "x"}
    assert "The password is changed." in browser.post("/password", data=typed).text
    link = re.search(r'href="(/password[^"]+)"', browser.get("/devices/secure").text)
    assert link
    assert '<form method="post">' in browser.get(link[1]).text
    offer = browser.post(link[1], data=typed)
    assert str(offer.url).endswith("/devices/secure?done=password")
    assert browser.get("/devices").text.count('<li class="device') == 1
    assert browser.cookies["device"] == device


def request_id_of(page: httpx.Response) -> str:
    found = re.search(r'name="request_id" value="([0-9a-f-]{36})"', page.text)
    assert found, page.text
    return found[1]


def test_a_double_click_makes_one_device(authority: FakeAuthority, url: str):
    """A browser sends the form twice before it has an answer. So neither request has a device
    ID.
    """
    with opened(url) as first, opened(url) as second, opened(url) as later:
        form = {"user": "ada", "request_id": request_id_of(first.get("/sign-in"))}
        with ThreadPoolExecutor(2) as clicks:
            pages = list(clicks.map(lambda b: b.post("/sign-in", data=form), (first, second)))
        assert ["Hello ada" in page.text for page in pages] == [True, True]
        assert first.cookies["device"] == second.cookies["device"]
        again = first.post("/sign-in", data=form)  # the browser now has a device ID
        assert (again.status_code, "Hello ada" in again.text) == (200, True)
        with SessionAuthority(authority.address, timeout=timedelta(seconds=PATIENCE)) as client:
            assert len(list(client.devices("ada"))) == 1
        assert request_id_of(later.get("/sign-in")) != form["request_id"]


def test_a_form_that_is_sent_again_after_a_sign_out_asks_for_a_new_sign_in(browser: httpx.Client):
    form = {"user": "ada", "request_id": request_id_of(browser.get("/sign-in"))}
    assert "Hello ada" in browser.post("/sign-in", data=form).text
    browser.post("/devices/sign-out", data={"device": browser.cookies["device"]})
    page = browser.post("/sign-in", data=form)
    assert (page.url.path, page.status_code) == ("/sign-in", 200)
    assert request_id_of(page) != form["request_id"]
    refused = browser.post("/sign-in", data={"user": "", "request_id": "x"})
    assert refused.status_code == 400
    assert (
        "Hello ada"
        in browser.post("/sign-in", data={"user": "ada", "request_id": request_id_of(refused)}).text
    )


def test_a_mere_link_signs_nobody_out(authority: FakeAuthority, browser: httpx.Client):
    browser.post("/sign-in", data={"user": "ada"})
    assert browser.get("/devices/sign-out").status_code == 405
    for path in ("/devices/sign-out-others", "/devices/secure"):
        assert browser.get(path).status_code == 200
    with SessionAuthority(authority.address, timeout=timedelta(seconds=PATIENCE)) as client:
        assert [device.signed_in for device in client.devices("ada")] == [True]


BOX = re.compile(r'<input type="checkbox" name="remember"\s+(checked)?>')


@pytest.mark.parametrize("box", ["on", ""])
def test_a_box_decides_whether_the_session_outlives_the_browser(browser: httpx.Client, box: str):
    found = BOX.search(browser.get("/sign-in").text)
    assert found
    assert found[1] == "checked"
    form = {"remember": box} if box else {}
    refused = BOX.search(browser.post("/sign-in", data={"user": "", **form}).text)
    assert refused
    assert bool(refused[1]) is bool(box)
    browser.post("/sign-in", data={"user": "ada", **form})
    kept = {cookie.name: not cookie.discard for cookie in browser.cookies.jar}
    brief = {} if box else {"session-brief": False}
    assert kept == {"session": bool(box), "device": True, **brief}
    offered = BOX.search(browser.get("/sign-in", params={"reason": "step_up"}).text)
    assert offered
    assert bool(offered[1]) is bool(box)
