"""Owns the process's clocks. Every other room is handed them, or in tests other ones."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


def now() -> datetime:
    """The present moment in UTC, cut to milliseconds: records hold no more."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def uptime() -> timedelta:
    """How long the machine has run, its sleep included where it can tell. Nobody sets this clock,
    and it only runs forward.
    """
    return timedelta(seconds=_uptime_seconds())


class SteadyClock:
    """The present moment in UTC, cut to milliseconds, and right even after somebody has set the
    wall clock: counted by a clock that nobody sets, from the last moment at which the wall clock
    was right. The wall clock itself until it was found to be so.
    """

    def __init__(self) -> None:
        self._started_at_seconds: float | None = None

    def found_right(self, moment: datetime) -> None:
        """Notes that the wall clock, which shows this moment, is right."""
        self._started_at_seconds = moment.timestamp() - _uptime_seconds()

    def __call__(self) -> datetime:
        """The present moment."""
        if self._started_at_seconds is None:
            return now()
        ms = int((self._started_at_seconds + _uptime_seconds()) * 1000)
        return datetime.fromtimestamp(ms / 1000, UTC)


def _uptime_seconds() -> float:
    return time.clock_gettime(_UPTIME_CLOCK)


_UPTIME_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
