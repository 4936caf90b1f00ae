"""Provides the process's clocks. Other packages get them as arguments, and tests pass other
clocks.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_NANOSECONDS_A_MILLISECOND = 1_000_000


def now() -> datetime:
    """Returns the present time in UTC, truncated to milliseconds, because records hold nothing
    finer.
    """
    # Each call reads this clock more than once, and this computation costs a third of truncating a
    # datetime. Until the year 2242, a float holds whole milliseconds with an error of less than
    # half a microsecond.
    return datetime.fromtimestamp(time.time_ns() // _NANOSECONDS_A_MILLISECOND / 1000, UTC)


def uptime() -> timedelta:
    """Returns the time since the machine started, including sleep if the system counts sleep. This
    is a monotonic clock: nothing sets it, and it only runs forward.
    """
    # The argument is a whole number, because each call reads this clock, and timedelta takes twice
    # as long for a float.
    return timedelta(0, 0, int(_uptime_seconds() * 1_000_000))


class SteadyClock:
    """The present time in UTC, truncated to milliseconds. This clock stays right even if the wall
    clock is set wrong. It counts by the monotonic clock, from the last moment at which the wall
    clock was known to be right. Before the first such moment, it shows the time of the wall clock.
    """

    def __init__(self) -> None:
        self._started_at_seconds: float | None = None

    def found_right(self, moment: datetime, uptime: timedelta) -> None:
        """Notes that the wall clock was right when it showed this moment, at this uptime."""
        self._started_at_seconds = moment.timestamp() - uptime.total_seconds()

    def __call__(self) -> datetime:
        """Returns the present time."""
        if self._started_at_seconds is None:
            return now()
        ms = int((self._started_at_seconds + _uptime_seconds()) * 1000)
        return datetime.fromtimestamp(ms / 1000, UTC)


def _uptime_seconds() -> float:
    return time.clock_gettime(_UPTIME_CLOCK)


_UPTIME_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
