"""Owns the process's clocks. Other rooms get them as arguments, and tests pass other clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_NANOSECONDS_A_MILLISECOND = 1_000_000


def now() -> datetime:
    """The present moment in UTC, cut to milliseconds: records hold no more."""
    # A third of what cutting a datetime costs: each call reads this clock more than once. A float
    # holds whole milliseconds to a part of a microsecond for thousands of years.
    return datetime.fromtimestamp(time.time_ns() // _NANOSECONDS_A_MILLISECOND / 1000, UTC)


def uptime() -> timedelta:
    """How long the machine has run, including its sleep where the system counts it. This clock is
    never set, and only runs forward.
    """
    # From a whole number, as each call reads this clock: from a float it takes twice as long.
    return timedelta(0, 0, int(_uptime_seconds() * 1_000_000))


class SteadyClock:
    """The present moment in UTC, cut to milliseconds. It stays right after the wall clock was set:
    it is counted by a clock that is never set, from the last moment at which the wall clock was
    found right. Until then it is the wall clock.
    """

    def __init__(self) -> None:
        self._started_at_seconds: float | None = None

    def found_right(self, moment: datetime, uptime: timedelta) -> None:
        """Notes that the wall clock was right when it showed this moment, at this uptime."""
        self._started_at_seconds = moment.timestamp() - uptime.total_seconds()

    def __call__(self) -> datetime:
        """The present moment."""
        if self._started_at_seconds is None:
            return now()
        ms = int((self._started_at_seconds + _uptime_seconds()) * 1000)
        return datetime.fromtimestamp(ms / 1000, UTC)


def _uptime_seconds() -> float:
    return time.clock_gettime(_UPTIME_CLOCK)


_UPTIME_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
