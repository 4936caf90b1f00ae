"""docs/calls.md and docs/errors.md list every method, status and reason, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from session_authority.domain.verdicts import SessionStatus
from session_authority.rpc import status as rpc_status
from session_authority.v1 import errors_pb2
from tests.rpc.harness import METHODS

pytestmark = pytest.mark.one_acceptor

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without the head of the table."""
    text = (DOCS / page).read_text("utf-8")
    section = re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]
    found = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row] for row in found[2:]]


def test_every_method_has_a_row():
    named = [name for name, *_ in rows("calls.md", "RPCs")]
    assert sorted(named) == sorted(METHODS)


def test_every_status_has_a_row():
    named = [name for name, *_ in rows("calls.md", "Statuses")]
    assert sorted(named) == sorted(status.name for status in SessionStatus)


def test_every_reason_has_a_row_with_its_code():
    codes = {reason: code.name for code, reason in rpc_status._TABLE.values()}
    codes[errors_pb2.ERROR_REASON_INTERNAL] = "INTERNAL"
    expected = {
        errors_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_"): code
        for reason, code in codes.items()
    }
    found = rows("errors.md", "Reasons")
    assert {reason: code for reason, code, *_ in found} == expected
    assert len(found) == len(expected), "a reason has two rows"
    for reason, _, why, what_to_do in found:
        assert why, reason
        assert what_to_do, reason
