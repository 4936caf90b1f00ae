"""A kept answer equals a new judgement of the token at every moment at which it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_authority.domain import steady_verdicts
from session_authority.domain.session_limits import ReplayAlarm, SessionLimits
from session_authority.domain.steady_verdicts import Steadiness, steadiness, steady_until
from session_authority.domain.verdicts import SessionStatus, Verdict
from tests.domain.samples import LIMITS, MINUTE, MS, NOW, OTHER_COPY, SECOND, record, token
from tests.domain.steady_cases import Case, case_of
from tests.support.budget import budget

_TICK = datetime.resolution
SEEDS = range(6000)


def wrong_moments(case: Case) -> Iterator[datetime]:
    """The moments at which the kept answer would differ from the judged one."""
    until = case.until()
    if until is None:
        return
    kept = case.judged_at(case.now)
    over, verdict, used, *_ = kept
    fits = isinstance(verdict, Verdict) and verdict.status is SessionStatus.ACTIVE
    if over or not fits or used is not case.record:
        yield case.now
    for now in (*case.later, until - _TICK):
        if case.now <= now < until and case.judged_at(now) != kept:
            yield now


@settings(max_examples=budget(3000), deadline=None)
@given(st.integers(0, 2**64))
def test_a_kept_answer_equals_the_judged_one(seed: int):
    assert list(wrong_moments(case_of(Random(seed)))) == []


@settings(max_examples=budget(1000), deadline=None)
@given(st.integers(0, 2**64))
def test_an_answer_is_kept_until_it_changes_or_a_use_must_be_written(seed: int):
    case = case_of(Random(seed))
    until = case.until()
    if until is not None:
        assert case.judged_at(until) != case.judged_at(case.now)


def test_the_cases_reach_every_edge():
    steady = [case for case in map(case_of, map(Random, SEEDS)) if case.until() is not None]
    assert len(steady) > len(SEEDS) / 20
    touch, renewal = steady_verdicts._touch_is_due, steady_verdicts._renewal_is_advised
    ends: dict[str, Callable[[Case], datetime | None]] = {
        touch.__name__: lambda case: touch(case.record, case.limits),
        renewal.__name__: lambda case: renewal(case.record, case.token),
        **{
            change.__name__: lambda case, change=change: change(  # type: ignore[misc]
                case.record, case.token, case.limits
            )
            for change in steady_verdicts._CHANGES
        },
    }
    for name, end in ends.items():
        assert any(end(case) == case.until() for case in steady), f"nothing ends by {name}"


_NEVER = datetime.max.replace(tzinfo=UTC)


def _dropped(_: Any) -> Callable[..., datetime | None]:
    return lambda *_: _NEVER


def _late(change: Callable[..., datetime | None]) -> Callable[..., datetime | None]:
    def later(*of: Any) -> datetime | None:
        at = change(*of)
        return None if at is None else at + _TICK

    return later


BOUNDS = [change.__name__ for change in steady_verdicts._CHANGES]
ALONE = ["_touch_is_due", "_renewal_is_advised"]


@pytest.mark.parametrize("broken", [_dropped, _late])
@pytest.mark.parametrize("bound", [*BOUNDS, *ALONE])
def test_each_end_of_a_kept_answer_is_needed_to_the_microsecond(
    bound: str, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    wrong = broken(getattr(steady_verdicts, bound))
    if bound in ALONE:
        monkeypatch.setattr(steady_verdicts, bound, wrong)
    else:
        bounds = [wrong if b.__name__ == bound else b for b in steady_verdicts._CHANGES]
        monkeypatch.setattr(steady_verdicts, "_CHANGES", tuple(bounds))
    assert any(any(wrong_moments(case_of(Random(seed)))) for seed in SEEDS)


def test_only_the_newest_token_has_a_kept_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steady_verdicts, "_is_newest", lambda *_: True)
    assert any(any(wrong_moments(case_of(Random(seed)))) for seed in SEEDS)


@pytest.mark.parametrize(
    "changes", [{"session_id": bytes(16)}, {"generation": 6}, {"copy": OTHER_COPY}]
)
def test_nothing_is_kept_for_a_token_that_is_not_the_newest(changes: dict[str, Any]):
    assert steady_until(record(), token(), LIMITS, NOW) is not None
    assert steady_until(record(), token(**changes), LIMITS, NOW) is None


def test_a_passive_request_has_a_kept_answer_when_a_touch_is_due():
    seen_at = NOW - LIMITS.touch_interval + SECOND
    stored = record(last_seen_at=seen_at)
    kept = steadiness(stored, b"bytes", token(), LIMITS, NOW)
    assert kept is not None
    assert (kept.since, kept.until) == (NOW, NOW + SECOND)
    assert kept.holds_at(NOW + SECOND - MS, passive=False)
    assert not kept.holds_at(NOW + SECOND, passive=False)
    assert kept.holds_at(NOW + SECOND, passive=True)
    assert not kept.holds_at(NOW - MS, passive=True)


def test_an_answer_to_a_passive_request_is_only_for_passive_requests():
    kept = steadiness(
        record(last_seen_at=NOW - LIMITS.touch_interval), b"bytes", token(), LIMITS, NOW
    )
    assert kept == Steadiness(b"bytes", NOW, NOW, token().issued_at + 30 * MINUTE + _TICK)


def test_where_only_renewals_raise_the_alarm_no_validation_chooses_a_holder():
    limits = SessionLimits(replay_alarm=ReplayAlarm.RENEWED)
    stored = record(limits, holder=None, last_seen_at=NOW)
    assert steady_until(stored, token(limits), limits, NOW) == NOW + limits.touch_interval
