"""What the middleware does with requests, tested with the cases that the clients of all languages
share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

import pytest

from client_tests.conduct_harness import SERVED, Played
from client_tests.vectors import Case, each
from session_authority_client import SessionStatus
from session_authority_client._async import admission as async_admission
from session_authority_client._async import visit as async_visit
from session_authority_client._sync import admission, visit
from session_authority_client.flow import CONDUCT, Conduct


@pytest.fixture
def _at_its_moment(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops the clock at the moment that the case names."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(case.given["now"], tz or UTC)

    for module in (admission, async_admission, visit, async_visit):
        monkeypatch.setattr(module, "datetime", Stopped)


def assert_body(found: bytes, said: Mapping[str, Any]) -> None:
    """Compares the body of a response with the body that a case describes."""
    kind = said["kind"]
    if kind == "json":
        assert json.loads(found) == said["json"]
    elif kind == "json_with":
        assert said["json"].items() <= json.loads(found).items()
    elif kind == "page":
        text = found.decode()
        assert text.startswith("<!doctype html>")
        assert [part for part in said["includes"] if part not in text] == []
        assert [part for part in said["excludes"] if part in text] == []
    else:
        assert found == {"app": SERVED, "empty": b""}[kind]


def assert_as_expected(found: dict[str, Any], case: Case) -> None:
    """Compares the whole result of a case with the expected result."""
    body = found.pop("body")
    assert found == {name: value for name, value in case.expected.items() if name != "body"}
    assert_body(body, case.expected["body"])


@pytest.mark.usefixtures("_at_its_moment")
@each("conduct")
def test_a_request_over_wsgi_ends_as_its_shared_case_says(case: Case) -> None:
    assert_as_expected(Played(case).over_wsgi(), case)


@pytest.mark.usefixtures("_at_its_moment")
@each("conduct")
async def test_a_request_over_asgi_ends_as_its_shared_case_says(case: Case) -> None:
    assert_as_expected(await Played(case).over_asgi(), case)


def test_each_session_status_has_a_conduct_and_only_active_goes_on() -> None:
    assert set(CONDUCT) == set(SessionStatus)
    assert {status for status, conduct in CONDUCT.items() if conduct is Conduct.GO_ON} == {
        SessionStatus.ACTIVE
    }
