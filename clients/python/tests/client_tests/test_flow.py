"""The meaning of requests and the contents of responses, decided without any I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from client_tests.vectors import Case, cases_of, headers_of
from session_authority_client import (
    ClientInfo,
    Session,
    SessionStatus,
    Unavailable,
)
from session_authority_client.cookies import Cookies
from session_authority_client.flow import Flow, InsecureHost, Presented

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEVICE = "123e4567-e89b-42d3-a456-426614174000"
BROWSER = Presented(None, "abc", DEVICE, app=False, client=ClientInfo(), page=True)
APP = Presented(None, "abc", DEVICE, app=True, client=ClientInfo(), page=False)
SESSION = Session(
    "ada", DEVICE, "0" * 32, 2, {}, (), NOW, NOW + timedelta(hours=1), NOW + timedelta(days=7)
)
BROWSERS_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def presented(
    flow: Flow | None = None,
    *,
    method: str = "GET",
    peer: str = "192.0.2.1",
    **headers: str | list[str],
):
    given = {
        name.replace("_", "-"): [text] if isinstance(text, str) else text
        for name, text in {"accept": BROWSERS_ACCEPT, **headers}.items()
    }
    return (flow or Flow()).presented(method, given, peer)


# --- requests -------------------------------------------------------------------------------------


def test_a_presented_request_shows_no_token():
    found = presented(cookie=f"__Host-session=abc; __Host-device={DEVICE}")
    assert (found.token, found.device_id) == ("abc", DEVICE)
    assert "abc" not in repr(found)


def test_insecure_cookies_at_another_host_raise_an_error_with_advice():
    flow = Flow(Cookies(insecure=True))
    with pytest.raises(ValueError, match="http://localhost only") as refused:
        presented(flow, host="example.org", accept="application/json")
    assert isinstance(refused.value, InsecureHost)
    assert b"open the app there, or serve it over HTTPS" in refused.value.answer.body


# --- responses ------------------------------------------------------------------------------------


def test_the_url_of_the_sign_in_page_must_be_printable_ascii():
    with pytest.raises(ValueError, match="printable ASCII"):
        Flow(sign_in_url="/sign-in\r\nX: y")


FORM = presented(method="POST", sec_fetch_mode="navigate", host="a", origin="https://a")


@pytest.mark.parametrize(
    ("page", "says", "way_on"),
    [
        (BROWSER, b"<h1>Please try again in a moment</h1>", b'<a href="">try again</a>'),
        (FORM, b"<h1>That did not work</h1>", b'<a href="/">go to the first page</a>'),
    ],
)
def test_people_get_a_page_that_says_how_to_go_on(page: Presented, says: bytes, way_on: bytes):
    error = Unavailable("secret", grpc.StatusCode.UNAVAILABLE)
    answer = Flow().no_answer(page, error).answer
    headers = dict(answer.headers)
    assert (answer.status, headers["Retry-After"], headers["Cache-Control"]) == (
        503,
        "1",
        "no-store",
    )
    assert (headers["Content-Type"], headers["Content-Length"]) == (
        "text/html; charset=utf-8",
        str(len(answer.body)),
    )
    assert says in answer.body
    assert way_on in answer.body
    assert b"color-scheme: light dark" in answer.body
    for never in (b"script", b"http", b"src=", b"url(", b"secret"):
        assert never not in answer.body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_page_after_a_form_never_asks_to_send_the_form_again(method: str):
    form = presented(method=method, sec_fetch_mode="navigate")
    error = Unavailable("secret", grpc.StatusCode.UNAVAILABLE)
    body = Flow().no_answer(form, error).answer.body.lower()
    for again in (b"again", b"reload", b"resend", b"repeat", b'href=""', b"refresh"):
        assert again not in body


def test_the_pages_look_like_the_sign_in_pages_of_the_examples():
    example = (Path(__file__).parents[2] / "examples" / "flask_app.py").read_text()
    body = Flow().no_answer(BROWSER, Unavailable("", grpc.StatusCode.UNAVAILABLE)).answer.body
    rules = body.decode().partition("<style>")[2].partition("</style>")[0].split("\n")
    assert len(rules) > 3
    assert [rule for rule in rules if rule.strip() not in example] == []


SCRIPTS = [case for case in cases_of("presented") if case.id.startswith("no-page-")]


@pytest.mark.parametrize("case", SCRIPTS, ids=lambda case: case.id)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_scripts_get_no_pages(method: str, case: Case):
    sign_in = Flow(sign_in_url="/sign-in")
    headers = headers_of(case.given["request"]["headers"])
    script = sign_in.presented(method, {**headers, "host": ["a"], "origin": ["http://a"]}, "")
    answer = sign_in.sign_in_required(script, SessionStatus.NO_SESSION).answer
    assert (answer.status, answer.body) == (401, b'{"error": "sign_in_required"}')


@pytest.mark.parametrize("setting", ["bearer", "check_origin", "end_connections"])
@pytest.mark.parametrize("value", ["no", "", 0, 1, None])
def test_a_switch_must_be_true_or_false(setting: str, value: Any):
    with pytest.raises(TypeError, match=f"^{setting}: must be True or False"):
        Flow(**{setting: value})
