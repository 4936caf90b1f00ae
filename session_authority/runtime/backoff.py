"""Computes back-off: the time to wait before the next attempt, after some attempts have failed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double with each failure, from `first` up to `longest`. They have jitter, so that
    clients that failed at the same time do not try again at the same time.
    """

    first: timedelta
    longest: timedelta
    least_share: float = 0.5

    def seconds(self, failures: int) -> float:
        """Returns the delay in seconds after this many failures in a row. The full delay is
        `first`, doubled for each failure after the first, and at most `longest`. The result is a
        random share of the full delay, from `least_share` to 1.
        """
        doubled = self.first.total_seconds() * 2.0 ** min(failures - 1, 32)
        ceiling = min(doubled, self.longest.total_seconds())
        return ceiling * random.uniform(self.least_share, 1)  # noqa: S311 - spreads, hides nothing
