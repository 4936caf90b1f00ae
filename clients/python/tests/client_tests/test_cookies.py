"""The text of cookies, tested with the cases that the clients of all languages share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from client_tests.vectors import Case, cookies_of, each
from session_authority_client.cookies import Cookies, SameSite


def at(seconds: float) -> datetime:
    """Returns the moment that a case names."""
    return datetime.fromtimestamp(seconds, UTC)


@each("cookies", "read")
def test_cookies_are_read(case: Case) -> None:
    cookies, headers = cookies_of(case.settings), case.given["cookie_headers"]
    token, device_id, brief = cookies.read_all(headers)
    found = {"token": token, "device_id": device_id, "brief_session_id": brief}
    assert found == case.expected


_ERRORS = {"bad_value": "can't be the value", "too_long": "longer than browsers keep", None: ""}


def handed_out(case: Case) -> list[str]:
    """Returns the `Set-Cookie` lines for a case. Raises ValueError."""
    given = case.given
    return cookies_of(case.settings).hand_out(
        given["token"],
        given["device_id"],
        at(given["end"]),
        at(given["now"]),
        brief=given["brief_session_id"],
    )


@each("cookies", "hand_out")
def test_cookies_are_handed_out(case: Case) -> None:
    if case.expected["error"] is None:
        assert handed_out(case) == case.expected["set_cookie"]
    else:
        with pytest.raises(ValueError, match=_ERRORS[case.expected["error"]]):
            handed_out(case)


@each("cookies", "take_back")
def test_cookies_are_taken_back(case: Case) -> None:
    cookies, given = cookies_of(case.settings), case.given
    lines = cookies.take_back(device=given["device"], brief=given["brief"])
    assert lines == case.expected["set_cookie"]


@each("cookies", "owns")
def test_lines_of_the_app_that_set_our_cookies_are_recognized(case: Case) -> None:
    owns = cookies_of(case.settings).is_set_by(case.given["set_cookie"])
    assert owns is case.expected["owns"]


# The error for each setting, with the setting's name in Python.
_REFUSED = {
    "token_cookie": "^token: must",
    "device_cookie": "^device: must|^token and device: are two",
    "same_site": "^same_site: must",
    "device_same_site": "^device_same_site: must",
}


@each("cookies", "configure")
def test_bad_settings_are_refused(case: Case) -> None:
    if case.expected["error"] is None:
        cookies_of(case.settings)
    else:
        with pytest.raises(ValueError, match=_REFUSED[case.expected["error"]]):
            cookies_of(case.settings)


def test_same_site_may_be_text_as_frameworks_spell_it() -> None:
    assert Cookies(same_site="Lax").same_site is SameSite.LAX  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, False])
def test_same_site_of_another_type_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="same_site"):
        Cookies(same_site=wrong)
    with pytest.raises(ValueError, match="device_same_site"):
        Cookies(device_same_site=False)  # type: ignore[arg-type]


def test_a_header_of_100_000_semicolons_is_read() -> None:
    assert Cookies().read([";" * 100_000]) == ("", "")
