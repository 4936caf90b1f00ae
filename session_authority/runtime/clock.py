"""Provides the clocks of the process. Most code gets a clock as an argument, so that tests can pass
another clock.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_NANOSECONDS_A_MILLISECOND = 1_000_000


def now() -> datetime:
    """Returns the present time in UTC, truncated to milliseconds, because the records in Redis have
    no finer times.
    """
    # This computation takes a third of the time that truncating a datetime would take. The speed
    # matters, because each call of a client reads the clock more than once. Until the year 2242, a
    # float that counts seconds has an error of less than half a microsecond, so the milliseconds of
    # the result are right.
    return datetime.fromtimestamp(time.time_ns() // _NANOSECONDS_A_MILLISECOND / 1000, UTC)


def uptime() -> timedelta:
    """Returns the time since the machine started. On Linux, the time while the machine slept is
    included. This clock is monotonic: no program can set it, and it never goes back.
    """
    # The microseconds are an int, because `timedelta` takes twice as long for a float, and the
    # clock is read in each call of a client.
    return timedelta(0, 0, int(_uptime_seconds() * 1_000_000))


class SteadyClock:
    """A clock that stays right even if the wall clock is set wrong. The clock adds the elapsed
    monotonic time to the last time at which the wall clock was known to be right. Before the first
    call of `found_right`, the clock shows the time of the wall clock.
    """

    def __init__(self) -> None:
        self._started_at_seconds: float | None = None

    def found_right(self, moment: datetime, uptime: timedelta) -> None:
        """Notes that the wall clock was right when it showed `moment`. `uptime` is the result of
        the function `uptime` at the same time.
        """
        self._started_at_seconds = moment.timestamp() - uptime.total_seconds()

    def __call__(self) -> datetime:
        """Returns the present time in UTC, truncated to milliseconds."""
        if self._started_at_seconds is None:
            return now()
        ms = int((self._started_at_seconds + _uptime_seconds()) * 1000)
        return datetime.fromtimestamp(ms / 1000, UTC)


def _uptime_seconds() -> float:
    return time.clock_gettime(_UPTIME_CLOCK)


_UPTIME_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
