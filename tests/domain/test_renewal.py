"""The result of a renewal: the next generation, another copy of the current one, or nothing new."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.renewals import Renewal, mark, renew
from session_authority.domain.sessions import SessionRecord, StoredClaims, Token
from session_authority.domain.verdicts import SessionStatus
from tests.domain.samples import (
    DAY,
    LIMITS,
    MINUTE,
    MS,
    NOW,
    OTHER_COPY,
    PHONE_KEY,
    SECOND,
    around,
    record,
    token,
)

CURRENT, PREVIOUS = token(), token(generation=6)


def swap(before: SessionRecord, presented: Token) -> Renewal:
    return renew(before, presented, PHONE_KEY, LIMITS, NOW)


def after(renewal: Renewal) -> SessionRecord:
    assert renewal.record is not None
    return renewal.record


# With the current generation.


@pytest.mark.parametrize(("when", "age"), around(LIMITS.alarm_after))
def test_the_current_generation_is_replaced_once_it_is_old_enough(when: str, age: timedelta):
    before = record(dated_at=NOW - age)
    renewal = swap(before, CURRENT)
    assert renewal.verdict.status is SessionStatus.ACTIVE
    if when == "before":
        assert not renewal.hand_out
        assert renewal.record == mark(before, CURRENT, LIMITS, NOW)
    else:
        assert renewal.hand_out
        assert after(renewal).generation == 8


def test_the_next_generation_is_new_unseen_and_has_no_holder():
    before = record(last_seen_at=NOW - SECOND)
    rotated = after(swap(before, CURRENT))
    assert (rotated.generation, rotated.holder, rotated.first_seen_at) == (8, None, None)
    assert rotated.predecessor == token().copy
    assert (rotated.dated_at, rotated.token_ends_at, rotated.last_seen_at) == (
        NOW,
        NOW + LIMITS.token_ttl,
        NOW,
    )
    assert (rotated.session_id, rotated.replaced) == (before.session_id, before.replaced)
    assert (rotated.signed_in_at, rotated.ends_at) == (before.signed_in_at, before.ends_at)


@pytest.mark.parametrize(("when", "left"), around(LIMITS.token_ttl))
def test_no_token_outlives_its_session(when: str, left: timedelta):
    for before, presented in (
        (record(ends_at=NOW + left), CURRENT),
        (record(ends_at=NOW + left, first_seen_at=None), PREVIOUS),
    ):
        assert after(swap(before, presented)).token_ends_at == NOW + min(left, LIMITS.token_ttl)


@pytest.mark.parametrize(("when", "left"), around(LIMITS.token_ttl))
def test_no_token_outlives_the_longest_session_of_the_present_settings(when: str, left: timedelta):
    began = NOW + left - LIMITS.session_ttl
    for before, presented in (
        (record(signed_in_at=began, ends_at=NOW + DAY), CURRENT),
        (record(signed_in_at=began, ends_at=NOW + DAY, first_seen_at=None), PREVIOUS),
    ):
        assert after(swap(before, presented)).token_ends_at == NOW + min(left, LIMITS.token_ttl)


def test_an_ended_token_is_replaced_while_its_session_lives():
    ended = token(issued_at=NOW - DAY, expires_at=NOW - DAY + LIMITS.token_ttl)
    assert swap(record(dated_at=NOW - DAY), ended).hand_out


def test_a_young_generation_records_its_first_use_and_no_holder():
    before = record(dated_at=NOW - MINUTE, first_seen_at=None, holder=None)
    assert swap(before, CURRENT) == Renewal(
        swap(before, CURRENT).verdict, replace(before, first_seen_at=NOW), False
    )


def test_a_second_copy_is_not_renewed():
    renewal = swap(record(), token(copy=OTHER_COPY))
    assert (renewal.verdict.status, renewal.record, renewal.hand_out) == (
        SessionStatus.REPLAYED,
        None,
        False,
    )


# With the generation before it.


@pytest.mark.parametrize(("when", "age"), around(LIMITS.grace))
def test_while_the_newest_generation_is_unseen_another_copy_of_it_is_issued(
    when: str, age: timedelta
):
    before = record(dated_at=NOW - age, first_seen_at=None, holder=None, last_seen_at=NOW - SECOND)
    renewal = swap(before, PREVIOUS)
    assert renewal.hand_out
    if when == "after":
        expected = replace(
            before, dated_at=NOW, token_ends_at=NOW + LIMITS.token_ttl, last_seen_at=NOW
        )
        assert renewal.record == expected
    else:
        assert (after(renewal).dated_at, after(renewal).token_ends_at) == (
            before.dated_at,
            before.token_ends_at,
        )
        assert replace(after(renewal), last_seen_at=before.last_seen_at) == before


@pytest.mark.parametrize(
    "age", [0 * MS, LIMITS.grace, LIMITS.alarm_after, LIMITS.token_ttl, 6 * DAY]
)
def test_an_older_token_never_leads_beyond_the_newest_generation(age: timedelta):
    before = record(dated_at=NOW - age, first_seen_at=None, holder=None)
    assert after(swap(before, PREVIOUS)).generation == before.generation


def test_another_copy_does_not_count_as_seen():
    before = record(first_seen_at=None, holder=None)
    assert after(swap(before, PREVIOUS)).first_seen_at is None


@pytest.mark.parametrize("seen", [0 * MS, LIMITS.grace - MS])
def test_once_the_newest_generation_was_seen_no_copy_is_issued(seen: timedelta):
    before = record(first_seen_at=NOW - seen, last_seen_at=NOW - LIMITS.touch_interval, holder=None)
    renewal = swap(before, PREVIOUS)
    assert (renewal.verdict.status, renewal.hand_out) == (SessionStatus.ACTIVE, False)
    assert renewal.record == replace(before, last_seen_at=NOW)


@pytest.mark.parametrize("seen", [LIMITS.grace, LIMITS.alarm_after])
def test_after_its_grace_an_older_token_gets_no_copy(seen: timedelta):
    renewal = swap(record(first_seen_at=NOW - seen), PREVIOUS)
    assert (renewal.record, renewal.hand_out) == (None, False)


def test_parallel_tabs_end_with_one_generation():
    first = swap(record(), CURRENT)
    second = renew(first.record, CURRENT, PHONE_KEY, LIMITS, NOW + SECOND)
    third = renew(second.record, CURRENT, PHONE_KEY, LIMITS, NOW + 2 * SECOND)
    assert first.hand_out
    assert second.hand_out
    assert third.hand_out
    assert {after(r).generation for r in (first, second, third)} == {8}
    assert {after(r).dated_at for r in (first, second, third)} == {NOW}


# With a token that is ahead of a store that lost writes.


@pytest.mark.parametrize(("when", "age"), around(LIMITS.alarm_after))
def test_a_token_ahead_is_renewed_from_the_record_that_it_proves(when: str, age: timedelta):
    presented = token(generation=8, issued_at=NOW - age, expires_at=NOW - age + LIMITS.token_ttl)
    renewal = swap(record(dated_at=NOW - DAY), presented)
    forwarded = renewal.verdict.forwarded
    assert forwarded is not None
    if when == "before":
        assert (renewal.record, renewal.hand_out) == (
            mark(forwarded, presented, LIMITS, NOW),
            False,
        )
    else:
        assert renewal.hand_out
        assert after(renewal).generation == 9


# Where the store has claims of the session.

OLD, NEW = {"email": "old@example.org"}, {"email": "new@example.org"}
NEWER, IN_TOKENS = StoredClaims.NEWER, StoredClaims.IN_TOKENS


@pytest.mark.parametrize("stored", [NEWER, IN_TOKENS])
@pytest.mark.parametrize("age", [0 * MS, LIMITS.durable_after, LIMITS.alarm_after - MS])
def test_a_token_too_young_to_be_replaced_is_issued_again_with_newer_claims(
    age: timedelta, stored: StoredClaims
):
    """Nothing that a verdict depends on changes: no time, no copy, and no generation."""
    before = record(dated_at=NOW - age, holder=None, stored_claims=stored)
    renewal = renew(before, token(claims=OLD), PHONE_KEY, LIMITS, NOW, claims=NEW)
    assert (renewal.hand_out, renewal.reissue) == (False, True)
    assert renewal.record == mark(before, CURRENT, LIMITS, NOW)


def test_a_token_with_the_claims_is_not_issued_again_and_proves_their_arrival():
    before = record(dated_at=NOW - MINUTE, stored_claims=NEWER)
    renewal = renew(before, token(claims=NEW), PHONE_KEY, LIMITS, NOW, claims=NEW)
    assert (renewal.hand_out, renewal.reissue) == (False, False)
    assert after(renewal) == replace(mark(before, CURRENT, LIMITS, NOW), stored_claims=IN_TOKENS)


@pytest.mark.parametrize("left", [-MS, 0 * MS, MS])
def test_an_ended_token_is_not_issued_again(left: timedelta):
    before = record(dated_at=NOW - MINUTE, holder=None, stored_claims=NEWER)
    ending = token(claims=OLD, expires_at=NOW + left)
    assert renew(before, ending, PHONE_KEY, LIMITS, NOW, claims=NEW).reissue == (left > 0 * MS)


@pytest.mark.parametrize("claims", [OLD, NEW])
def test_the_next_generation_has_the_claims(claims: dict[str, str]):
    renewal = renew(
        record(stored_claims=NEWER), token(claims=claims), PHONE_KEY, LIMITS, NOW, claims=NEW
    )
    assert (renewal.hand_out, renewal.reissue) == (True, False)
    assert after(renewal).stored_claims is IN_TOKENS


def test_another_copy_does_not_prove_the_arrival_of_the_claims():
    """An earlier copy may lack the claims, and be in use."""
    before = record(first_seen_at=None, holder=None, stored_claims=NEWER)
    renewal = renew(before, token(generation=6), PHONE_KEY, LIMITS, NOW, claims=NEW)
    assert (renewal.hand_out, renewal.reissue) == (True, False)
    assert after(renewal).stored_claims is NEWER


def test_a_superseded_token_is_not_issued_again():
    before = record(first_seen_at=NOW - LIMITS.grace + MS, stored_claims=NEWER)
    renewal = renew(before, PREVIOUS, PHONE_KEY, LIMITS, NOW, claims=NEW)
    assert (renewal.hand_out, renewal.reissue) == (False, False)
    assert after(renewal).stored_claims is NEWER


def test_no_use_without_a_renewal_proves_the_arrival_of_the_claims():
    before = record(dated_at=NOW - MINUTE, stored_claims=NEWER)
    assert mark(before, token(claims=NEW), LIMITS, NOW).stored_claims is NEWER


# Any number of renewals, in any order.


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1]),  # Presents the newest token, or the one before it.
            st.sampled_from(
                [MS, SECOND, LIMITS.grace, MINUTE, LIMITS.alarm_after, LIMITS.token_ttl]
            ),
            st.booleans(),  # The newest token is used in between.
        ),
        max_size=30,
    )
)
def test_generations_grow_only_by_one_and_only_with_the_newest(
    steps: list[tuple[int, timedelta, bool]],
):
    state, now = record(ends_at=NOW + DAY), NOW
    copies = {6: 6, 7: 7}
    state = replace(state, holder=copies[7])
    for behind, pause, is_used in steps:
        now += pause
        generation = state.generation - behind
        presented = token(
            generation=generation,
            copy=copies[generation],
            issued_at=now,
            expires_at=now + LIMITS.token_ttl,
        )
        renewal = renew(state, presented, PHONE_KEY, LIMITS, now)
        if renewal.record is not None:
            grown = renewal.record.generation - state.generation
            assert grown in ((0, 1) if behind == 0 else (0,))
            assert renewal.hand_out or grown == 0
            assert renewal.record.token_ends_at <= renewal.record.ends_at == state.ends_at
            state = renewal.record
            copies.setdefault(state.generation, state.generation)
        if is_used:
            newest = token(generation=state.generation, copy=copies[state.generation])
            state = mark(state, newest, LIMITS, now)
