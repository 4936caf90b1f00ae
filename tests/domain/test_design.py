"""The verdict table of docs/design.md: the code judges an example of each row as the page says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from session_authority.domain.session_limits import MAX_LOST_GENERATIONS
from session_authority.domain.sessions import SessionRecord, Token
from session_authority.domain.verdicts import SessionStatus, judge
from tests.domain.samples import (
    ENDED,
    LAPTOP_KEY,
    LIMITS,
    MS,
    NOW,
    OTHER_COPY,
    PHONE_KEY,
    REPLACED,
    record,
    token,
)

PAGE = (Path(__file__).parents[2] / "docs/design.md").read_text()
ROWS = dict(re.findall(r"^\| ([a-z :-]+) \| [^|]+ \| `([A-Z_]+)` \|", PAGE, re.MULTILINE))
# These rows are decided before there is a record to judge by: see tests/authority and tests/tokens.
EARLIER = {"missing", "invalid", "expired", "no-device"}

LIVE, CURRENT, PREVIOUS = record(), token(), token(generation=6)
OLD = token(session_id=REPLACED, issued_at=LIVE.signed_in_at - LIMITS.alarm_after - MS)
AFTER_SIGN_IN = record(replaced=REPLACED[:8])
# For each row: the record, the token, and the key of the device that presents it.
EXAMPLES: dict[str, tuple[SessionRecord | None, Token, bytes]] = {
    "record: none": (None, CURRENT, PHONE_KEY),
    "record: over": (record(ends_at=NOW), CURRENT, PHONE_KEY),
    "elsewhere: live": (LIVE, CURRENT, LAPTOP_KEY),
    "elsewhere: assigned": (LIVE, CURRENT, LAPTOP_KEY),
    "elsewhere: dead": (LIVE, token(session_id=ENDED), LAPTOP_KEY),
    "current": (LIVE, CURRENT, PHONE_KEY),
    "current: second copy": (LIVE, token(copy=OTHER_COPY), PHONE_KEY),
    "previous: second copy": (LIVE, replace(PREVIOUS, copy=OTHER_COPY), PHONE_KEY),
    "previous: unseen": (record(first_seen_at=None), PREVIOUS, PHONE_KEY),
    "previous: grace": (record(first_seen_at=NOW - LIMITS.grace + MS), PREVIOUS, PHONE_KEY),
    "previous: quiet": (record(first_seen_at=NOW - LIMITS.grace), PREVIOUS, PHONE_KEY),
    "older": (LIVE, token(generation=5), PHONE_KEY),
    "ahead": (LIVE, token(generation=8), PHONE_KEY),
    "ahead: impossible": (LIVE, token(generation=8 + MAX_LOST_GENERATIONS), PHONE_KEY),
    "replaced: crossing": (replace(AFTER_SIGN_IN, first_seen_at=None), OLD, PHONE_KEY),
    "replaced": (AFTER_SIGN_IN, OLD, PHONE_KEY),
    "ended": (LIVE, token(session_id=ENDED), PHONE_KEY),
}


@pytest.mark.parametrize("row", EXAMPLES)
def test_the_code_decides_each_row_as_the_page_says(row: str):
    stored, presented, key = EXAMPLES[row]
    assigned = row == "elsewhere: assigned"
    verdict = judge(stored, presented, key, LIMITS, NOW, assigned=assigned)
    assert ROWS[row] == verdict.status.name


def test_the_page_has_each_row_and_each_status():
    assert ROWS.keys() == EXAMPLES.keys() | EARLIER
    assert set(ROWS.values()) == {status.name for status in SessionStatus}
