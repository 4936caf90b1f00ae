"""How much of a caller's time may be spent on its call."""

from __future__ import annotations

# Kept back so that the answer arrives in time, be it that the time was not enough: a share of what
# is left, as a busy service is late by more than a moment, within these bounds. A burst of 200
# calls that a store which hangs keeps waiting together took 60 ms to refuse on a busy machine.
SPARED_PARTS = 5
MIN_SPARED_SECONDS, MAX_SPARED_SECONDS = 0.01, 0.25


def seconds_to_work(left_seconds: float) -> float:
    """The seconds that may be spent of those that are left until the deadline; less than 0 if there
    are too few to begin.
    """
    spared = min(max(left_seconds / SPARED_PARTS, MIN_SPARED_SECONDS), MAX_SPARED_SECONDS)
    return left_seconds - spared
