"""Owns back-off: how long to wait before the next attempt, after some that failed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double with each failure, from `first` up to `longest`. They have jitter, so that
    clients that failed together do not try again together.
    """

    first: timedelta
    longest: timedelta
    least_share: float = 0.5

    def seconds(self, failures: int) -> float:
        """The delay after this many failures in a row: anywhere from `least_share` of the ceiling
        to all of it.
        """
        doubled = self.first.total_seconds() * 2.0 ** min(failures - 1, 32)
        ceiling = min(doubled, self.longest.total_seconds())
        return ceiling * random.uniform(self.least_share, 1)  # noqa: S311 - spreads, hides nothing
