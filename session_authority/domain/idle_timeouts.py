"""The idle time of one session, where its sign-in asked for less than the service's.

A session record has one byte for it. So there are 255 steps: each minute up to 2 hours, then 5
minutes up to 4 hours, 15 minutes up to 12 hours, hours up to 2 days, days up to 45. What people ask
for is among them; what is not becomes the next shorter step.
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
    """The number, from 1, of the longest step that is no longer than what was asked for, which is a
    minute at least.
    """
    return bisect_right(STEPS, asked)


def shortened(asked: timedelta) -> timedelta:
    """That step."""
    return STEPS[step_of(asked) - 1]
