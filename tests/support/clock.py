"""A clock that only a test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Callable like the service's own clock."""

    def __init__(self, start: datetime | None = None) -> None:
        self.now = start or datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, step: timedelta) -> None:
        """Moves the clock forward."""
        self.now += step
