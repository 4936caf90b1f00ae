"""Defines the idle timeouts that a sign-in can request for its session.

A session record has one byte for the idle timeout, so only 255 timeouts are possible. This module
calls the possible timeouts steps. There is a step for each minute up to 2 hours, for each 5 minutes
up to 4 hours, and for each 15 minutes up to 12 hours. There is a step for each hour up to 2 days,
and for each day up to 45 days. A time between two steps becomes the shorter step. A time of more
than 45 days becomes 45 days.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import timedelta

_MINUTES = (
    *range(1, 121),
    *range(125, 241, 5),
    *range(255, 721, 15),
    *range(13 * 60, 48 * 60 + 1, 60),
    *range(3 * 1440, 45 * 1440 + 1, 1440),
)
STEPS = tuple(timedelta(minutes=minutes) for minutes in _MINUTES)
SHORTEST = STEPS[0]


def step_of(asked: timedelta) -> int:
    """Returns the number of the longest step that is not longer than `asked`. The first step has
    the number 1. `asked` must be at least a minute.
    """
    return bisect_right(STEPS, asked)


def shortened(asked: timedelta) -> timedelta:
    """Returns the longest step that is not longer than `asked`, which must be at least a minute."""
    return STEPS[step_of(asked) - 1]
