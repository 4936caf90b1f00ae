"""The steps in which a record stores a session's own idle time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from session_authority.domain.idle_timeouts import SHORTEST, STEPS, shortened, step_of

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize("step", STEPS)
def test_each_step_is_stored_exactly(step: timedelta):
    assert shortened(step) == step
    assert STEPS[step_of(step) - 1] == step
    assert 1 <= step_of(step) <= 255


@pytest.mark.parametrize(
    "minutes", [1, 15, 20, 90, *(60 * hours for hours in (2, 8, 12, 24, 36, 48, 168, 720, 1080))]
)
def test_usual_times_are_steps(minutes: int):
    assert minutes * MINUTE in STEPS


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (119 * timedelta(seconds=1), MINUTE),
        (2 * HOUR + 4 * MINUTE, 2 * HOUR),
        (4 * HOUR + 14 * MINUTE, 4 * HOUR),
        (12 * HOUR + 59 * MINUTE, 12 * HOUR),
        (3 * DAY - MINUTE, 2 * DAY),
        (400 * DAY, 45 * DAY),
    ],
)
def test_other_times_are_rounded_down_to_a_step(asked: timedelta, kept: timedelta):
    assert shortened(asked) == kept
    assert kept >= SHORTEST
