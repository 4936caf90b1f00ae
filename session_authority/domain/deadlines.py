"""Decides how much of a call's deadline the service may use for its work."""

from __future__ import annotations

# Kept back so that the answer arrives in time, be it that the time was not enough: a share of what
# is left, as a busy service is late by more than a moment, within these bounds. A burst of 200
# calls that a store which hangs keeps waiting together took 60 ms to refuse on a busy machine.
SPARED_PARTS = 5
MIN_SPARED_SECONDS, MAX_SPARED_SECONDS = 0.01, 0.25


def seconds_to_work(left_seconds: float) -> float:
    """How many of the seconds until the deadline the service may use. Negative if too few are left
    to begin.
    """
    spared = min(max(left_seconds / SPARED_PARTS, MIN_SPARED_SECONDS), MAX_SPARED_SECONDS)
    return left_seconds - spared
