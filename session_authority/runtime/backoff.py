"""Computes back-off: how long a client waits before its next attempt, after some attempts have
failed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Computes delays that double with each failure, from `first` up to `longest`. Each delay is
    shortened by a random amount (jitter), so that clients that failed at the same time do not try
    again at the same time.
    """

    first: timedelta
    longest: timedelta
    least_share: float = 0.5

    def seconds(self, failures: int) -> float:
        """Returns the delay in seconds after this many failures in a row. The full delay is `first`
        after one failure. The full delay doubles with each further failure, up to `longest`. The
        result is the full delay, multiplied by a random number from `least_share` to 1.
        """
        doubled = self.first.total_seconds() * 2.0 ** min(failures - 1, 32)
        ceiling = min(doubled, self.longest.total_seconds())
        return ceiling * random.uniform(self.least_share, 1)  # noqa: S311 - no secret depends on it
