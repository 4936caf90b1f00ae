"""Owns the process's clocks. Every other room is handed them, or in tests other ones."""

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
    """How long the machine has run, its sleep included where it can tell. Nobody sets this clock,
    and it only runs forward.
    """
    return timedelta(seconds=time.clock_gettime(_UPTIME_CLOCK))


_UPTIME_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
