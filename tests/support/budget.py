"""How much the tests explore where they could explore for ever: TEST_BUDGET multiplies it."""

from __future__ import annotations

import os

_BUDGET = float(os.environ.get("TEST_BUDGET", "1"))


def budget(usual: int) -> int:
    """The usual number (of tries, seconds, events), multiplied by TEST_BUDGET. At least 1."""
    return max(1, round(usual * _BUDGET))
