"""What requests mean and what responses say, decided without any I/O."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from client_tests.vectors import Case, cases_of, headers_of
from session_authority_client import (
    ClientInfo,
    Device,
    FormFactor,
    IssuedDevice,
    Renewal,
    Session,
    SessionStatus,
    Unavailable,
)
from session_authority_client.cookies import Cookies
from session_authority_client.flow import CONDUCT, Conduct, Flow, InsecureHost, Presented

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEVICE = "123e4567-e89b-42d3-a456-426614174000"
BROWSER = Presented(None, "abc", DEVICE, app=False, client=ClientInfo(), page=True)
APP = Presented(None, "abc", DEVICE, app=True, client=ClientInfo(), page=False)
SESSION = Session(
    "ada", DEVICE, "0" * 32, 2, {}, (), NOW, NOW + timedelta(hours=1), NOW + timedelta(days=7)
)
STRICT = "Secure; HttpOnly; SameSite=Strict"
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


# --- what was presented ---------------------------------------------------------------------------


def test_what_a_request_brought_shows_no_token():
    found = presented(cookie=f"__Host-session=abc; __Host-device={DEVICE}")
    assert (found.token, found.device_id) == ("abc", DEVICE)
    assert "abc" not in repr(found)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", ["203.0.113.7"], "192.0.2.1"),  # nobody to believe
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["nonsense"], ""),
        ("", ["2001:db8::7"], "2001:db8::7"),
        ("testclient", [], ""),
        ("fe80::1%eth0", [], "fe80::1"),
        ("::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
    ],
)
def test_only_named_proxies_are_believed(peer: str, forwarded: list[str], address: str):
    flow = Flow(trusted_proxies=("10.0.0.0/8", "unix"))
    assert presented(flow, peer=peer, x_forwarded_for=forwarded).client.ip_address == address


def test_no_proxy_is_believed_without_being_named():
    assert presented(peer="", x_forwarded_for="203.0.113.7").client.ip_address == ""
    with pytest.raises(ValueError, match="nonsense"):
        Flow(trusted_proxies=("nonsense",))


def test_a_long_way_is_not_followed_to_its_end():
    flow = Flow(trusted_proxies=("10.0.0.0/8",))
    found = presented(flow, peer="10.0.0.1", x_forwarded_for="203.0.113.7" + ", 10.0.0.2" * 6000)
    assert found.client.ip_address == "10.0.0.2"


@pytest.mark.parametrize(
    "host", ["example.org", "localhost.example.org", "127.0.0.1.example.org", "localhost:x", ""]
)
def test_insecure_cookies_are_refused_elsewhere(host: str):
    flow = Flow(Cookies(insecure=True))
    with pytest.raises(ValueError, match="http://localhost only") as refused:
        presented(flow, host=host, accept="application/json")
    assert isinstance(refused.value, InsecureHost)
    assert refused.value.answer.status == 400
    assert b"open the app there, or serve it over HTTPS" in refused.value.answer.body
    with pytest.raises(InsecureHost) as refused:
        presented(flow, host=host, sec_fetch_mode="navigate")
    assert b'<a href="http://localhost/">http://localhost</a>' in refused.value.answer.body


# --- what becomes of it ---------------------------------------------------------------------------


def test_each_verdict_has_its_conduct():
    assert set(CONDUCT) == set(SessionStatus)
    assert {status for status, conduct in CONDUCT.items() if conduct is Conduct.GO_ON} == {
        SessionStatus.ACTIVE
    }


@pytest.mark.parametrize("status", SessionStatus)
def test_only_a_replay_takes_cookies_back(status: SessionStatus):
    taken = Flow().after_denial(BROWSER, status)
    assert bool(taken) is (status is SessionStatus.REPLAYED)
    assert len(taken) in (0, 2)
    assert Flow().after_denial(APP, status) == []


def renewal(status: SessionStatus = SessionStatus.ACTIVE, token: str | None = None) -> Renewal:
    session = SESSION if status is SessionStatus.ACTIVE else None
    return Renewal(
        status, session, token is not None, token, SESSION.token_expire_time if token else None, 0
    )


def test_a_renewal_hands_out_both_cookies_or_leaves_what_is_there():
    flow = Flow()
    assert [
        line.partition(";")[0] for line in flow.after_renewal(BROWSER, renewal(token="next"), NOW)
    ] == [
        "__Host-session=next",
        f"__Host-device={DEVICE}",
    ]
    assert flow.after_renewal(BROWSER, renewal(), NOW) == []
    assert flow.after_renewal(APP, renewal(token="next"), NOW) == []
    assert flow.after_renewal(BROWSER, renewal(SessionStatus.NO_SESSION), NOW) == []
    assert len(flow.after_renewal(BROWSER, renewal(SessionStatus.REPLAYED), NOW)) == 2


LAST_USE, LAST_DAY = NOW + timedelta(days=7), NOW + timedelta(days=30)


@pytest.mark.parametrize(
    ("idle_end", "absolute_end", "seconds"),
    [
        (LAST_USE, LAST_DAY, 30 * 86400),
        (LAST_DAY, LAST_DAY, 30 * 86400),
        (LAST_USE, None, 7 * 86400),  # an older service does not tell it
        (NOW + timedelta(hours=1), NOW + timedelta(hours=2), 7200),  # session_ttl
    ],
)
def test_the_cookie_of_a_session_lasts_to_the_absolute_end_of_the_session(
    idle_end: datetime, absolute_end: datetime | None, seconds: int
):
    session = replace(SESSION, expire_time=idle_end, absolute_expire_time=absolute_end)
    device = Device(
        DEVICE, "", "", "", FormFactor.UNSPECIFIED, ClientInfo(), session.session_id,
        NOW, NOW, NOW, idle_end, False, True, absolute_expire_time=absolute_end,
    )  # fmt: skip
    issued = IssuedDevice(device, "next", NOW + timedelta(minutes=5), False, False, ())
    renewed = replace(renewal(token="next"), session=session)
    for lines in (
        Flow().after_sign_in(BROWSER, issued, NOW),
        Flow().after_renewal(BROWSER, renewed, NOW),
    ):
        assert lines[0].startswith(f"__Host-session=next; Path=/; Max-Age={seconds};")


def test_401_says_nothing_but_a_code():
    flow = Flow()
    denied = {
        flow.sign_in_required(BROWSER, s).answer.body
        for s in SessionStatus
        if s != SessionStatus.TOKEN_EXPIRED
    }
    assert denied == {b'{"error": "sign_in_required"}'}
    answer = flow.sign_in_required(APP, SessionStatus.TOKEN_EXPIRED).answer
    assert (answer.status, answer.body) == (401, b'{"error": "token_expired"}')
    assert dict(answer.headers) == {
        "Content-Type": "application/json",
        "Content-Length": "26",
        "WWW-Authenticate": "Bearer",
        "Cache-Control": "no-store",
    }


def test_pages_are_redirected_where_the_app_says_so():
    flow = Flow(sign_in_url="/sign-in")
    answer = flow.sign_in_required(BROWSER, SessionStatus.NO_SESSION).answer
    assert (answer.status, dict(answer.headers)["Location"]) == (303, "/sign-in")
    for other in (APP, presented(method="POST")):
        assert flow.sign_in_required(other, SessionStatus.NO_SESSION).answer.status == 401
    with pytest.raises(ValueError, match="printable ASCII"):
        Flow(sign_in_url="/sign-in\r\nX: y")


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [(None, "1"), (timedelta(0), "1"), (timedelta(seconds=2.5), "3"), (timedelta(days=1), "60")],
)
def test_503_says_when_to_come_again(retry_after: timedelta | None, header: str):
    error = Unavailable("secret", grpc.StatusCode.UNAVAILABLE, retry_after=retry_after)
    answer = Flow().no_answer(APP, error).answer
    assert (answer.status, dict(answer.headers)["Retry-After"]) == (503, header)
    assert answer.body == b'{"error": "unavailable"}'


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
def test_the_page_never_asks_to_send_a_form_again(method: str):
    form = presented(method=method, sec_fetch_mode="navigate")
    error = Unavailable("secret", grpc.StatusCode.UNAVAILABLE)
    body = Flow().no_answer(form, error).answer.body.lower()
    for again in (b"again", b"reload", b"resend", b"repeat", b'href=""', b"refresh"):
        assert again not in body


def test_the_pages_look_as_the_sign_in_pages_of_the_examples():
    example = (Path(__file__).parents[2] / "examples" / "flask_app.py").read_text()
    body = Flow().no_answer(BROWSER, Unavailable("", grpc.StatusCode.UNAVAILABLE)).answer.body
    rules = body.decode().partition("<style>")[2].partition("</style>")[0].split("\n")
    assert len(rules) > 3
    assert [rule for rule in rules if rule.strip() not in example] == []


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_mode": "cors"},
        {"accept": "application/json"},
        {"x_device_id": ""},
        {"authorization": "Bearer a"},
    ],
)
def test_programs_get_the_code(headers: dict[str, str]):
    error = Unavailable("secret", grpc.StatusCode.UNAVAILABLE)
    assert (
        Flow().no_answer(presented(Flow(), **headers), error).answer.body
        == b'{"error": "unavailable"}'
    )


def test_another_sites_form_that_signs_out_takes_nothing_back():
    kept_back = presented(method="POST")
    assert Flow().after_sign_out(kept_back) == []
    assert Flow().after_sign_out(BROWSER) == Cookies().take_back(device=False)
    garbled = presented(cookie="__Host-session=ä")
    assert Flow().after_sign_out(garbled) == Cookies().take_back(device=False)


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 303),
        ("POST", {}, 401),
        ("POST", {"sec_fetch_mode": "navigate"}, 303),
        ("POST", {"sec_fetch_mode": "cors"}, 401),
        ("POST", {"sec_fetch_mode": "navigate", "authorization": "Bearer abc"}, 401),
    ],
)
def test_whoever_sends_a_form_without_a_session_is_sent_to_sign_in(
    method: str, headers: dict[str, str], status: int
):
    flow = Flow(sign_in_url="/sign-in")
    refused = flow.sign_in_required(
        presented(flow, method=method, **headers), SessionStatus.NO_SESSION
    )
    assert refused.answer.status == status


SCRIPTS = [case for case in cases_of("presented") if case.id.startswith("no-page-")]


@pytest.mark.parametrize("case", SCRIPTS, ids=lambda case: case.id)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_scripts_get_no_pages(method: str, case: Case):
    sign_in = Flow(sign_in_url="/sign-in")
    headers = headers_of(case.given["request"]["headers"])
    script = sign_in.presented(method, {**headers, "host": ["a"], "origin": ["http://a"]}, "")
    answer = sign_in.sign_in_required(script, SessionStatus.NO_SESSION).answer
    assert (answer.status, answer.body) == (401, b'{"error": "sign_in_required"}')


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("203.0.113.7:5555", "203.0.113.7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("x:1", ""),
    ],
)
def test_some_proxies_tell_the_port_too(hop: str, address: str):
    flow = Flow(trusted_proxies=("10.0.0.0/8",))
    assert (
        flow.presented("GET", {"x-forwarded-for": (hop,)}, "10.0.0.1").client.ip_address == address
    )


@pytest.mark.parametrize("setting", ["bearer", "check_origin", "end_connections"])
@pytest.mark.parametrize("value", ["no", "", 0, 1, None])
def test_a_switch_is_true_or_false(setting: str, value: Any):
    with pytest.raises(TypeError, match=f"^{setting}: must be True or False"):
        Flow(**{setting: value})
