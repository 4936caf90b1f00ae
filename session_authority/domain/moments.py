"""Converts moments in UTC to whole numbers since the Unix epoch, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
# The last second and the last millisecond that Python's datetime can hold, both at the end of the
# year 9999.
LAST_SECOND = (datetime.max.replace(tzinfo=UTC) - EPOCH) // SECOND
LAST_MS = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MILLISECOND


def to_ms(moment: datetime) -> int:
    """Returns the moment as whole milliseconds since the Unix epoch."""
    return (moment - EPOCH) // MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """Returns the moment that is this many milliseconds after the Unix epoch."""
    return EPOCH + milliseconds * MILLISECOND


def to_seconds(moment: datetime) -> int:
    """Returns the moment as whole seconds since the Unix epoch."""
    return (moment - EPOCH) // SECOND


def from_seconds(seconds: int) -> datetime:
    """Returns the moment that is this many seconds after the Unix epoch."""
    return EPOCH + seconds * SECOND


def whole_second(moment: datetime) -> datetime:
    """Returns the moment without its fraction of a second, because tokens contain only whole
    seconds.
    """
    return moment.replace(microsecond=0)
