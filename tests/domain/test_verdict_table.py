"""The verdict table from its row "record: none" on, which is called "none" here: each row as data,
at the edges of every interval that it names.

A row says the verdict on the token's own device and the verdict on any other device. Rows are tried
from the top, so the table also decides where two rows would apply.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from session_authority.domain.renewals import renew
from session_authority.domain.session_limits import (
    MAX_LOST_GENERATIONS,
    ReplayAlarm,
    SessionLimits,
)
from session_authority.domain.sessions import REPLACED_ID_BYTES, SessionRecord, Token
from session_authority.domain.verdicts import ReplayCause, SessionStatus, Verdict, judge
from tests.domain.samples import (
    COPY,
    ENDED,
    LAPTOP_KEY,
    MS,
    NOW,
    OTHER_COPY,
    PHONE_KEY,
    REPLACED,
    SECOND,
    around,
    record,
    token,
)

ACTIVE = Verdict(SessionStatus.ACTIVE)
ACTIVE_RENEW = Verdict(SessionStatus.ACTIVE, renew_recommended=True)
NO_SESSION = Verdict(SessionStatus.NO_SESSION)
SESSION_EXPIRED = Verdict(SessionStatus.SESSION_EXPIRED)
SUPERSEDED = Verdict(SessionStatus.SUPERSEDED)
SESSION_ENDED = Verdict(SessionStatus.SESSION_ENDED)
WRONG_DEVICE = Verdict(SessionStatus.WRONG_DEVICE)
LEFT_DEVICE = Verdict(SessionStatus.REPLAYED, cause=ReplayCause.LEFT_DEVICE)
SECOND_COPY = Verdict(SessionStatus.REPLAYED, cause=ReplayCause.SECOND_COPY)
SUPERSEDED_TOKEN = Verdict(SessionStatus.REPLAYED, cause=ReplayCause.SUPERSEDED_TOKEN)
REPLACED_SESSION = Verdict(SessionStatus.REPLAYED, cause=ReplayCause.REPLACED_SESSION)

# Verdicts that earlier steps give, without a record.
ANSWERED_EARLIER = {
    SessionStatus.TOKEN_MISSING,
    SessionStatus.TOKEN_INVALID,
    SessionStatus.TOKEN_EXPIRED,
}
POLICIES = {
    "default": SessionLimits(),
    "other": SessionLimits(
        token_ttl=timedelta(minutes=20),
        session_ttl=timedelta(days=2),
        idle_timeout=timedelta(hours=2),
        grace=timedelta(seconds=7),
        alarm_after=timedelta(seconds=61),
    ),
}


@dataclass(frozen=True)
class Row:
    """A row of the table. `forwards` says that the store had lost writes, and that the token proves
    a newer record.
    """

    name: str
    record: SessionRecord | None
    token: Token
    here: Verdict
    elsewhere: Verdict
    forwards: bool = False


def table(limits: SessionLimits) -> Iterator[Row]:
    """All rows under these limits."""
    grace, alarm, idle = limits.grace, limits.alarm_after, limits.idle_timeout
    long_ago = 10 * alarm
    session_end = NOW + timedelta(days=1)

    def stored(
        *, seen: timedelta | None = long_ago, dated: timedelta = long_ago, **changes: Any
    ) -> SessionRecord:
        """The record of the samples. `seen` says how long ago the current generation was seen, and
        `dated` how long ago the record was dated.
        """
        first_seen = None if seen is None else NOW - seen
        return record(
            limits,
            **{"first_seen_at": first_seen, "dated_at": NOW - dated, "ends_at": session_end}
            | changes,
        )

    def presented(**changes: Any) -> Token:
        return token(limits, **changes)

    current, previous, before_that = presented(), presented(generation=6), presented(generation=5)

    yield Row("none", None, current, NO_SESSION, NO_SESSION)

    # Past the absolute or the idle end, whichever is first, nothing else matters.
    live, over = (ACTIVE, LEFT_DEVICE), (SESSION_EXPIRED, SESSION_EXPIRED)
    for when, end, both in (("before", MS, live), ("at", 0 * MS, over), ("after", -MS, over)):
        yield Row(f"absolute end, {when}", stored(ends_at=NOW + end), current, *both)
        yield Row(f"idle end, {when}", stored(last_seen_at=NOW - idle + end), current, *both)
        signed_in = NOW - limits.session_ttl + end
        yield Row(f"lowered end, {when}", stored(signed_in_at=signed_in), current, *both)
    gone: dict[str, Any] = {"ends_at": NOW}
    yield Row(
        "over, idle for less", stored(ends_at=NOW, last_seen_at=NOW - idle + MS), current, *over
    )
    yield Row("over, before second copy", stored(**gone), presented(copy=OTHER_COPY), *over)
    yield Row("over, before previous in grace", stored(seen=0 * MS, **gone), previous, *over)
    yield Row("over, before superseded", stored(**gone), before_that, *over)
    yield Row("over, before ahead", stored(**gone), presented(generation=8), *over)
    yield Row(
        "over, before replaced",
        stored(replaced=REPLACED[:8], **gone),
        presented(session_id=REPLACED),
        *over,
    )
    yield Row("over, before ended", stored(**gone), presented(session_id=ENDED), *over)

    # The current generation: a token is good if the record has no holder, or if the token's copy is
    # the holder. The dates of the record do not matter.
    for seen in (None, 0 * MS, grace, alarm, long_ago):
        for dated in (0 * MS, alarm, long_ago):
            name = f"current, seen {seen} ago, dated {dated} ago"
            yield Row(
                f"{name}, no holder",
                stored(seen=seen, dated=dated, holder=None),
                current,
                ACTIVE,
                LEFT_DEVICE,
            )
            yield Row(
                f"{name}, its holder", stored(seen=seen, dated=dated), current, ACTIVE, LEFT_DEVICE
            )
            another = presented(copy=OTHER_COPY)
            yield Row(
                f"{name}, another copy",
                stored(seen=seen, dated=dated),
                another,
                SECOND_COPY,
                LEFT_DEVICE,
            )
    half = limits.token_ttl / 2
    for when, left, here in (
        ("before", half + MS, ACTIVE),
        ("at", half, ACTIVE),
        ("after", half - MS, ACTIVE_RENEW),
        ("long after", MS, ACTIVE_RENEW),
        ("past its end, which a renewal may be", -half, ACTIVE_RENEW),
    ):
        aged = presented(issued_at=NOW + left - limits.token_ttl, expires_at=NOW + left)
        yield Row(f"current, half-life, {when}", stored(), aged, here, LEFT_DEVICE)

    # The generation before the current one.
    yield Row("previous, unseen", stored(seen=None), previous, ACTIVE_RENEW, LEFT_DEVICE)
    yield Row(
        "previous, unseen, just dated",
        stored(seen=None, dated=0 * MS),
        previous,
        ACTIVE_RENEW,
        LEFT_DEVICE,
    )
    yield Row(
        "previous, another process's clock",
        stored(seen=-SECOND),
        previous,
        ACTIVE_RENEW,
        LEFT_DEVICE,
    )
    yield Row("previous, seen now", stored(seen=0 * MS), previous, ACTIVE_RENEW, LEFT_DEVICE)
    yield Row(
        "previous, grace, before", stored(seen=grace - MS), previous, ACTIVE_RENEW, LEFT_DEVICE
    )
    yield Row("previous, grace, at", stored(seen=grace), previous, SUPERSEDED, WRONG_DEVICE)
    yield Row("previous, grace, after", stored(seen=grace + MS), previous, SUPERSEDED, WRONG_DEVICE)
    yield Row(
        "previous, alarm, before", stored(seen=alarm - MS), previous, SUPERSEDED, WRONG_DEVICE
    )
    yield Row("previous, alarm, at", stored(seen=alarm), previous, SUPERSEDED_TOKEN, LEFT_DEVICE)
    yield Row(
        "previous, alarm, after", stored(seen=alarm + MS), previous, SUPERSEDED_TOKEN, LEFT_DEVICE
    )

    # The generation before the current one, in another copy than the predecessor: a replay. If the
    # record names no predecessor, every copy is good.
    for seen in (None, 0 * MS, grace, alarm, long_ago):
        another = replace(previous, copy=OTHER_COPY)
        yield Row(
            f"previous, another copy, seen {seen} ago",
            stored(seen=seen),
            another,
            SECOND_COPY,
            LEFT_DEVICE,
        )
        anyone = stored(seen=seen, predecessor=None)
        quiet = seen is None or seen < grace
        late = SUPERSEDED if seen is not None and seen < alarm else SUPERSEDED_TOKEN
        elsewhere = WRONG_DEVICE if late is SUPERSEDED and not quiet else LEFT_DEVICE
        name = f"previous, another copy though any is good, seen {seen} ago"
        yield Row(name, anyone, another, ACTIVE_RENEW if quiet else late, elsewhere)

    # An older generation is always a replay, even if the current generation was not seen.
    for seen in (None, 0 * MS, grace, alarm, long_ago):
        for generation in (1, 5):
            older = presented(generation=generation)
            name = f"older, generation {generation}, seen {seen} ago"
            yield Row(name, stored(seen=seen), older, SUPERSEDED_TOKEN, LEFT_DEVICE)

    # Ahead of the record: the store lost writes, if the token is younger than the record and not
    # impossibly far ahead.
    for ahead, here, elsewhere, forwards in (
        (1, ACTIVE, LEFT_DEVICE, True),
        (2, ACTIVE, LEFT_DEVICE, True),
        (MAX_LOST_GENERATIONS, ACTIVE, LEFT_DEVICE, True),
        (MAX_LOST_GENERATIONS + 1, NO_SESSION, WRONG_DEVICE, False),
    ):
        yield Row(
            f"ahead by {ahead}",
            stored(),
            presented(generation=7 + ahead),
            here,
            elsewhere,
            forwards,
        )
    newer = presented(generation=8)
    for when, age, here, elsewhere, forwards in (
        ("before", -MS, NO_SESSION, WRONG_DEVICE, False),
        ("at", 0 * MS, NO_SESSION, WRONG_DEVICE, False),
        ("after", MS, ACTIVE, LEFT_DEVICE, True),
    ):
        dated = NOW - (newer.issued_at - age)
        yield Row(
            f"ahead, issued {when} the date", stored(dated=dated), newer, here, elsewhere, forwards
        )
    yield Row(
        "ahead, another copy", stored(), replace(newer, copy=OTHER_COPY), ACTIVE, LEFT_DEVICE, True
    )
    yield Row("ahead, unseen", stored(seen=None), newer, ACTIVE, LEFT_DEVICE, True)
    aged = presented(generation=8, issued_at=NOW - half - MS, expires_at=NOW + half - MS)
    yield Row("ahead, half-life over", stored(), aged, ACTIVE_RENEW, LEFT_DEVICE, True)

    # The session that this one replaced. It has no grace.
    made_before = record(limits).signed_in_at - alarm
    of_replaced = presented(session_id=REPLACED, issued_at=made_before)
    one: dict[str, Any] = {"replaced": REPLACED[:REPLACED_ID_BYTES]}
    for seen_name, seen, here, elsewhere in (
        ("unseen", None, SUPERSEDED, WRONG_DEVICE),
        ("seen now", 0 * MS, SUPERSEDED, WRONG_DEVICE),
        ("grace, at", grace, SUPERSEDED, WRONG_DEVICE),
        ("alarm, before", alarm - MS, SUPERSEDED, WRONG_DEVICE),
        ("alarm, at", alarm, REPLACED_SESSION, WRONG_DEVICE),
        ("alarm, after", alarm + MS, REPLACED_SESSION, WRONG_DEVICE),
    ):
        yield Row(f"replaced, {seen_name}", stored(seen=seen, **one), of_replaced, here, elsewhere)
    for generation in (1, 6, 7, 8):
        theirs = replace(of_replaced, generation=generation)
        yield Row(
            f"replaced, generation {generation}",
            stored(**one),
            theirs,
            REPLACED_SESSION,
            WRONG_DEVICE,
        )
    for when, issued, here, elsewhere in (
        ("just too early to have crossed it", made_before - MS, REPLACED_SESSION, WRONG_DEVICE),
        ("at the edge", made_before, REPLACED_SESSION, WRONG_DEVICE),
        ("late enough to have crossed it", made_before + MS, SUPERSEDED, WRONG_DEVICE),
    ):
        theirs = replace(of_replaced, issued_at=issued)
        yield Row(
            f"replaced, made before the sign-in, {when}", stored(**one), theirs, here, elsewhere
        )
    same_start = stored(replaced=record(limits).session_id[:REPLACED_ID_BYTES])
    yield Row(
        "this session, though the replaced one starts like it",
        same_start,
        current,
        ACTIVE,
        LEFT_DEVICE,
    )

    # Any other session: a token of an ended session can't cause an alarm, whatever it says.
    for generation in (1, 7, 8):
        for seen in (None, long_ago):
            dead = presented(session_id=ENDED, generation=generation)
            what = f"generation {generation}, seen {seen} ago"
            yield Row(f"ended, {what}", stored(seen=seen), dead, SESSION_ENDED, WRONG_DEVICE)
            yield Row(
                f"ended, {what}, one replaced",
                stored(seen=seen, **one),
                dead,
                SESSION_ENDED,
                WRONG_DEVICE,
            )
    nearly = presented(
        session_id=REPLACED[: REPLACED_ID_BYTES - 1] + bytes(16 - REPLACED_ID_BYTES + 1)
    )
    yield Row("ended, nearly the replaced one", stored(**one), nearly, SESSION_ENDED, WRONG_DEVICE)


CASES = [
    pytest.param(row, limits, id=f"{name}: {row.name}")
    for name, limits in POLICIES.items()
    for row in table(limits)
]
EVERY_ROW = pytest.mark.parametrize(("row", "limits"), CASES)


def test_every_row_has_its_own_name():
    names = [row.name for row in table(SessionLimits())]
    assert len(names) == len(set(names))


@EVERY_ROW
def test_the_verdict_on_a_token_s_own_device(row: Row, limits: SessionLimits):
    verdict = judge(row.record, row.token, PHONE_KEY, limits, NOW)
    assert replace(verdict, forwarded=None) == row.here
    assert (verdict.forwarded is not None) == row.forwards


@EVERY_ROW
def test_the_verdict_on_any_other_device(row: Row, limits: SessionLimits):
    """A token on another device proves nothing, so it moves no record forward either."""
    assert judge(row.record, row.token, LAPTOP_KEY, limits, NOW) == row.elsewhere


@EVERY_ROW
@pytest.mark.parametrize("key", [PHONE_KEY, LAPTOP_KEY])
def test_a_renewal_gives_the_same_verdict(row: Row, limits: SessionLimits, key: bytes):
    renewal = renew(row.record, row.token, key, limits, NOW)
    assert renewal.verdict == judge(row.record, row.token, key, limits, NOW)
    is_active = renewal.verdict.status is SessionStatus.ACTIVE
    assert (renewal.record is not None) == is_active
    assert is_active or not renewal.hand_out


def test_the_table_reaches_every_status_and_every_cause():
    verdicts = [verdict for row in table(SessionLimits()) for verdict in (row.here, row.elsewhere)]
    assert {verdict.status for verdict in verdicts} == set(SessionStatus) - ANSWERED_EARLIER
    assert {verdict.cause for verdict in verdicts} == {None, *ReplayCause}


def test_a_cause_is_given_exactly_for_a_replay():
    """This is so with the default settings. Where only renewals raise the alarm, a SUPERSEDED
    verdict may have a cause, too.
    """
    for row in table(SessionLimits()):
        for verdict in (row.here, row.elsewhere):
            assert (verdict.cause is not None) == (verdict.status is SessionStatus.REPLAYED)


def test_where_grace_ends_with_the_alarm_no_token_is_superseded():
    limits = replace(SessionLimits(), grace=SessionLimits().alarm_after)
    previous = token(generation=6)
    for seen, expected in ((limits.grace - MS, ACTIVE_RENEW), (limits.grace, SUPERSEDED_TOKEN)):
        assert judge(record(first_seen_at=NOW - seen), previous, PHONE_KEY, limits, NOW) == expected


@pytest.mark.parametrize(("when", "age"), around(SessionLimits().durable_after))
def test_a_token_ahead_moves_the_record_forward(when: str, age: timedelta):
    before = record(holder=OTHER_COPY, last_seen_at=NOW - SECOND)
    ahead = token(generation=10, copy=COPY, issued_at=NOW - age)
    verdict = judge(before, ahead, PHONE_KEY, SessionLimits(), NOW)
    assert verdict.forwarded == replace(
        before,
        generation=10,
        holder=None,
        predecessor=None,
        dated_at=ahead.issued_at,
        token_ends_at=ahead.expires_at,
        first_seen_at=None if when == "before" else NOW,
        last_seen_at=NOW,
    )


@EVERY_ROW
def test_an_assigned_device_raises_no_alarm(row: Row, limits: SessionLimits):
    verdict = judge(row.record, row.token, LAPTOP_KEY, limits, NOW, assigned=True)
    spared = WRONG_DEVICE if row.elsewhere.status is SessionStatus.REPLAYED else row.elsewhere
    assert verdict == spared


@EVERY_ROW
def test_only_a_renewal_raises_the_alarm_where_the_setting_says_so(row: Row, limits: SessionLimits):
    patient = replace(limits, replay_alarm=ReplayAlarm.RENEWED)
    expected = row.here
    if row.here.status is SessionStatus.REPLAYED:
        expected = Verdict(SessionStatus.SUPERSEDED, row.here.cause, renew_recommended=True)
    assert (
        replace(judge(row.record, row.token, PHONE_KEY, patient, NOW), forwarded=None) == expected
    )
    assert judge(row.record, row.token, LAPTOP_KEY, patient, NOW).status is row.elsewhere.status
    renewal = renew(row.record, row.token, PHONE_KEY, patient, NOW)
    assert renewal.verdict.status is row.here.status


def test_moving_forward_never_moves_last_seen_back():
    before = record(last_seen_at=NOW + SECOND)
    forwarded = judge(before, token(generation=8), PHONE_KEY, SessionLimits(), NOW).forwarded
    assert forwarded is not None
    assert forwarded.last_seen_at == NOW + SECOND
