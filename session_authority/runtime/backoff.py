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
        """The delay after this many failures in a row. It is a random value between `least_share`
        of the ceiling and the whole ceiling.
        """
        doubled = self.first.total_seconds() * 2.0 ** min(failures - 1, 32)
        ceiling = min(doubled, self.longest.total_seconds())
        return ceiling * random.uniform(self.least_share, 1)  # noqa: S311 - spreads, hides nothing
