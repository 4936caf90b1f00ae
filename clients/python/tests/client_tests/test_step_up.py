"""Step-up without I/O: which sign-ins are recent and strong enough, and what a refusal says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from client_tests.test_flow import APP, BROWSER, SESSION
from session_authority_client._shared.step_up import (
    CLOCK_TOLERANCE,
    StepUp,
    step_up_in,
    step_up_of,
)
from session_authority_client.flow import Flow, Presented, SignInRequired, StepUpRequired

FIVE_MINUTES = timedelta(minutes=5)
INSTANT = timedelta(microseconds=1)
CODE = "insufficient_user_authentication"
FLOW = Flow(sign_in_url="/sign-in")
WANTED = StepUp(FIVE_MINUTES, ("otp", "hwk"))
LACK = "A more recent sign-in is required by one of these methods: otp, hwk"
# RFC 9110, section 11.2: a parameter whose value is a quoted string without escapes.
PARAMETER = re.compile(r'([a-z_]+)="([\x20\x21\x23-\x5b\x5d-\x7e]*)"')


def lack(wanted: StepUp, *methods: str, age: timedelta = timedelta(0)) -> str:
    return wanted.lack_of(replace(SESSION, auth_methods=methods), age)


@pytest.mark.parametrize(
    ("max_age", "age", "recent"),
    [
        (FIVE_MINUTES, timedelta(0), True),
        (FIVE_MINUTES, FIVE_MINUTES, True),
        (FIVE_MINUTES, FIVE_MINUTES + CLOCK_TOLERANCE, True),  # the clock of the app is fast
        (FIVE_MINUTES, FIVE_MINUTES + CLOCK_TOLERANCE + INSTANT, False),
        (FIVE_MINUTES, timedelta(days=-1), True),  # the clock of the app is slow
        # without the tolerance no sign-in would be recent enough
        (timedelta(0), CLOCK_TOLERANCE, True),
        (timedelta(0), CLOCK_TOLERANCE + INSTANT, False),
        (timedelta.max, timedelta(days=400), True),
        (None, timedelta(days=400), True),
    ],
)
def test_a_sign_in_is_recent_up_to_its_maximum_age_plus_the_tolerance_of_clocks(
    max_age: timedelta | None, age: timedelta, recent: bool
):
    assert lack(StepUp(max_age), age=age) == ("" if recent else "A more recent sign-in is required")


@pytest.mark.parametrize(
    ("wanted", "given", "strong"),
    [
        (("otp",), ("otp",), True),
        (("otp",), ("pwd", "otp"), True),
        (("otp", "hwk"), ("pwd", "hwk"), True),  # one of several is enough
        (("otp", "hwk"), ("pwd",), False),
        (("otp",), (), False),
        (("otp",), ("OTP", "ot", "otp2"), False),
        ((), (), True),
    ],
)
def test_a_sign_in_is_strong_if_it_used_one_of_the_methods(
    wanted: tuple[str, ...], given: tuple[str, ...], strong: bool
):
    assert (lack(StepUp(auth_methods=wanted), *given) == "") is strong


def test_the_message_says_what_a_sign_in_lacks():
    old = FIVE_MINUTES + timedelta(hours=1)
    assert lack(WANTED, "otp") == ""
    assert lack(WANTED, "otp", age=old) == "A more recent sign-in is required"
    assert lack(WANTED, "pwd") == "A sign-in is required by one of these methods: otp, hwk"
    assert lack(WANTED, "pwd", age=old) == LACK


@pytest.mark.parametrize("presented", [APP, replace(BROWSER, page=False), BROWSER])
def test_callers_without_a_sign_in_page_get_the_answer_of_rfc_9470(presented: Presented):
    """A request for a page gets the same answer if the app has no sign-in page."""
    refused = Flow().step_up_required(presented, WANTED, LACK)
    assert isinstance(refused, SignInRequired)
    assert (refused.code, refused.wanted) == (CODE, WANTED)
    headers = dict(refused.answer.headers)
    assert (refused.answer.status, headers["Cache-Control"]) == (401, "no-store")
    scheme, _, rest = headers["WWW-Authenticate"].partition(" ")
    parameters = rest.split(", ", 1)
    assert (scheme, parameters[0]) == ("Bearer", f'error="{CODE}"')
    assert dict(PARAMETER.findall(rest)) == {
        "error": CODE,
        "error_description": LACK,
        "max_age": "300",
    }
    assert json.loads(refused.answer.body) == {
        "error": CODE,
        "max_age": 300,
        "auth_methods": ["otp", "hwk"],
    }


def test_the_answer_names_only_what_was_required():
    aged = Flow().step_up_required(APP, StepUp(timedelta(seconds=90.9)), "old").answer
    assert json.loads(aged.body) == {"error": CODE, "max_age": 90}
    assert 'max_age="90"' in dict(aged.headers)["WWW-Authenticate"]
    weak = Flow().step_up_required(APP, StepUp(auth_methods=("otp",)), "weak").answer
    assert json.loads(weak.body) == {"error": CODE, "auth_methods": ["otp"]}
    assert "max_age" not in dict(weak.headers)["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("sign_in_url", "way_back", "location"),
    [
        ("/in", "/a?b=c", "/in?next=/a%3Fb%3Dc&reason=step_up&max_age=300"),
        ("/in?x=y#top", "/a", "/in?x=y&next=/a&reason=step_up&max_age=300#top"),
        ("/in", "", "/in?reason=step_up&max_age=300"),  # the request of a form can't be repeated
        ("https://id.example/in", "/a", "https://id.example/in?reason=step_up&max_age=300"),
    ],
)
def test_a_request_for_a_page_is_redirected_to_sign_in_with_reason_and_way_back(
    sign_in_url: str, way_back: str, location: str
):
    page, flow = replace(BROWSER, target=way_back), Flow(sign_in_url=sign_in_url)
    refused = flow.step_up_required(page, StepUp(FIVE_MINUTES), "old")
    assert isinstance(refused, StepUpRequired)
    assert (refused.answer.status, dict(refused.answer.headers)["Location"]) == (303, location)


@pytest.mark.parametrize(
    "wanted",
    [
        StepUp(FIVE_MINUTES),
        StepUp(timedelta(0)),
        StepUp(auth_methods=("otp", "hwk")),
        StepUp(FIVE_MINUTES, ("https://id.example/loa#2?a=b&c=%20+1;", "mfa")),
    ],
)
def test_the_sign_in_page_reads_the_requirements_from_its_url(wanted: StepUp):
    page = replace(BROWSER, target="/a?max_age=7&reason=x")
    location = dict(FLOW.step_up_required(page, wanted, "").answer.headers)["Location"]
    assert re.fullmatch(r"[!-~]+", location)
    assert step_up_in(location) == wanted
    assert parse_qs(urlsplit(location).query)["next"] == ["/a?max_age=7&reason=x"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", None),
        ("?next=/a", None),
        ("?max_age=300&auth_methods=otp", None),
        ("?reason=other&max_age=300", None),
        ("?reason=step_up", StepUp()),
        ("?reason=step_up&reason=other", StepUp()),
        ("?reason=step_up&max_age=-1", StepUp()),
        ("?reason=step_up&max_age=1e9", StepUp()),
        ("?reason=step_up&max_age=" + "9" * 99, StepUp()),
        ("?reason=step_up&max_age=%D9%A3", StepUp()),
        ("?reason=step_up&auth_methods=%3Cb%3E+otp+%22+otp++%00", StepUp(auth_methods=("otp",))),
        ("?reason=step_up" + "&a=b" * 200, None),
    ],
)
def test_a_forged_query_does_no_harm(query: str, found: StepUp | None):
    assert step_up_in(f"/sign-in{query}") == found


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_age": timedelta(seconds=-1)}, ValueError, "max_age: must not be negative"),
        ({"max_age": 300}, TypeError, "max_age: a timedelta, not int"),
        ({"auth_methods": ()}, ValueError, "auth_methods: must not be empty"),
        ({"auth_methods": "otp"}, ValueError, "auth_methods: must be several, not one text"),
        ({"auth_methods": b"otp"}, ValueError, "auth_methods: must be several, not one text"),
        ({"auth_methods": [""]}, ValueError, "auth_methods: each must be 1 to 128 letters"),
        ({"auth_methods": ["a b"]}, ValueError, "auth_methods: each must be 1 to 128 letters"),
        ({"auth_methods": ['a"']}, ValueError, "auth_methods: each must be 1 to 128 letters"),
        ({"auth_methods": ["a\r\n"]}, ValueError, "auth_methods: each must be 1 to 128 letters"),
        ({"auth_methods": [1]}, TypeError, "auth_methods: each a str, not int"),
    ],
)
def test_invalid_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
):
    given = {"max_age": None, "auth_methods": None, **arguments}
    with pytest.raises(error, match=message):
        step_up_of(**given)


def test_methods_may_be_any_collection_and_are_counted_once():
    assert step_up_of(None, ["otp", "otp"]) == StepUp(auth_methods=("otp",))
    assert step_up_of(None, frozenset({"otp"})) == StepUp(auth_methods=("otp",))
    assert step_up_of(None, None) == StepUp()
