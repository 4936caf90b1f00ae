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
    return timedelta(seconds=time.clock_gettime(_UPTIME_CLOCK))


_UPTIME_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
