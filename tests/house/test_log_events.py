"""Every log event is in the docs, with its level and its fields."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.log_events import ROOT, Event, client_lines, documented, logged

PAGE = (ROOT / "docs/logs.md").read_text()
DOCUMENTED = documented(PAGE)


@pytest.fixture(scope="module")
def of_the_service() -> dict[str, list[Event]]:
    """The events that the service's code logs. A fixture: all workers of pytest-xdist import this
    file, but only one of them needs the events.
    """
    return logged(ROOT / "session_authority")


def test_the_docs_name_every_event_and_no_other(of_the_service: dict[str, list[Event]]):
    assert DOCUMENTED.keys() == of_the_service.keys()
    assert [*DOCUMENTED] == sorted(DOCUMENTED)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_an_event_is_logged_as_the_docs_say(of_the_service: dict[str, list[Event]], name: str):
    told, events = DOCUMENTED[name], of_the_service[name]
    for event in events:
        assert event.level == told.level
        assert event.fields <= told.fields
    shown = frozenset[str]().union(*(event.fields for event in events))
    assert told.fields == shown or any(event.open for event in events)


def test_the_docs_name_every_log_line_of_the_client():
    table = PAGE.partition("## The Python")[2]
    told = re.findall(r"^\| `([^`]+)` \| (\w+) \| [^|]*\|$", table, re.MULTILINE)
    assert len(told) > 10
    lines = client_lines(ROOT / "clients/python/session_authority_client")
    for text, level in lines:
        assert [row for row in told if text.startswith(row[0]) and row[1] == level], text
    for begin, _ in told:
        assert any(text.startswith(begin) for text, _ in lines), begin


def test_an_event_is_found_in_every_form_of_its_name(tmp_path: Path):
    (tmp_path / "a.py").write_text(
        "def tell(event, **details):\n    _log.warning(event, left_out=0, **details)\n"
        "def run():\n    _log.error('failed', **fault(error))\n    tell('one')\n    tell('two')\n"
    )
    assert logged(tmp_path) == {
        "one": [Event("warning", frozenset({"left_out"}), open=True)],
        "two": [Event("warning", frozenset({"left_out"}), open=True)],
        "failed": [Event("error", frozenset({"error", "trace"}))],
    }


def test_an_event_whose_name_is_unknown_is_a_fault(tmp_path: Path):
    (tmp_path / "a.py").write_text("def tell(event):\n    _log.info(event)\n")
    with pytest.raises(AssertionError, match="nobody can tell"):
        logged(tmp_path)
