"""What the use of a token proves: the token arrived, its copy is the holder, and the session is in
use.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.renewals import mark
from tests.domain.samples import (
    COPY,
    LIMITS,
    MINUTE,
    NOW,
    OTHER_COPY,
    SECOND,
    around,
    record,
    token,
)

CURRENT, PREVIOUS = token(), token(generation=6)
spans = st.timedeltas(timedelta(days=-1), timedelta(days=1))


def test_the_first_use_is_noted():
    unseen = record(first_seen_at=None, holder=None, dated_at=NOW - SECOND)
    assert mark(unseen, CURRENT, LIMITS, NOW) == replace(unseen, first_seen_at=NOW)


def test_later_uses_do_not_move_the_first_use():
    seen = record(first_seen_at=NOW - SECOND, holder=None, dated_at=NOW - SECOND)
    assert mark(seen, CURRENT, LIMITS, NOW) == seen


@pytest.mark.parametrize(("when", "age"), around(LIMITS.alarm_after))
def test_the_first_copy_that_is_used_from_alarm_after_on_is_the_holder(when: str, age: timedelta):
    unsettled = record(holder=None, dated_at=NOW - age)
    assert mark(unsettled, CURRENT, LIMITS, NOW).holder == (None if when == "before" else COPY)


def test_a_holder_is_chosen_even_if_no_copy_was_seen_before():
    untouched = record(holder=None, first_seen_at=None, dated_at=NOW - LIMITS.alarm_after)
    marked = mark(untouched, CURRENT, LIMITS, NOW)
    assert (marked.holder, marked.first_seen_at) == (COPY, NOW)


def test_a_holder_stays():
    held = record(holder=OTHER_COPY)
    assert mark(held, CURRENT, LIMITS, NOW).holder == OTHER_COPY


@pytest.mark.parametrize("first_seen", [None, NOW - SECOND])
def test_an_older_generation_proves_only_that_the_session_is_in_use(first_seen: datetime | None):
    idle = record(first_seen_at=first_seen, holder=None, last_seen_at=NOW - LIMITS.touch_interval)
    assert mark(idle, PREVIOUS, LIMITS, NOW) == replace(idle, last_seen_at=NOW)


@pytest.mark.parametrize("presented", [CURRENT, PREVIOUS])
@pytest.mark.parametrize(("when", "idle"), around(LIMITS.touch_interval))
def test_last_seen_is_written_once_per_touch_interval(when: str, idle: timedelta, presented):
    before = record(last_seen_at=NOW - idle)
    assert mark(before, presented, LIMITS, NOW).last_seen_at == (
        NOW - idle if when == "before" else NOW
    )


def test_a_process_with_a_slow_clock_moves_no_time_back():
    ahead = record(first_seen_at=NOW + SECOND, last_seen_at=NOW + MINUTE)
    assert mark(ahead, CURRENT, LIMITS, NOW) == ahead


@pytest.mark.parametrize("presented", [CURRENT, PREVIOUS])
def test_a_use_that_proves_nothing_new_changes_no_record(presented):
    settled = record()
    assert mark(settled, presented, LIMITS, NOW) == settled


@given(
    seen=st.none() | spans,
    dated=spans,
    last_seen=spans,
    holder=st.sampled_from([None, COPY, OTHER_COPY]),
    generation=st.sampled_from([6, 7]),
)
def test_a_mark_changes_only_its_fields_and_may_be_applied_twice(
    seen: timedelta | None,
    dated: timedelta,
    last_seen: timedelta,
    holder: int | None,
    generation: int,
):
    first_seen = None if seen is None else NOW + seen
    before = record(
        first_seen_at=first_seen, dated_at=NOW + dated, last_seen_at=NOW + last_seen, holder=holder
    )
    presented = token(generation=generation)
    after = mark(before, presented, LIMITS, NOW)
    same = replace(
        after,
        first_seen_at=before.first_seen_at,
        holder=before.holder,
        last_seen_at=before.last_seen_at,
    )
    assert same == before
    assert after.last_seen_at >= before.last_seen_at
    assert after.first_seen_at in (
        {NOW} if first_seen is None and generation == 7 else {first_seen}
    )
    assert holder is None or after.holder == holder
    assert mark(after, presented, LIMITS, NOW) == after
