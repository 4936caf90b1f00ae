"""How much the tests explore that could explore for ever: TEST_BUDGET multiplies it."""

from __future__ import annotations

import os

_BUDGET = float(os.environ.get("TEST_BUDGET", "1"))


def budget(usual: int) -> int:
    """The number of tries, of which a run usually has this many."""
    return max(1, round(usual * _BUDGET))
