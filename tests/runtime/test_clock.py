"""The process's clocks return only times that a record can hold."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta

import pytest

from session_authority.runtime import clock

_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_the_present_moment_is_cut_to_milliseconds(monkeypatch: pytest.MonkeyPatch):
    chance = random.Random(7)
    for _ in range(20_000):
        milliseconds = chance.randrange(4_000_000_000_000)  # Until the year 2096.
        nanoseconds = milliseconds * 1_000_000 + chance.choice((0, 1, 499_999, 500_000, 999_999))
        monkeypatch.setattr(time, "time_ns", lambda nanoseconds=nanoseconds: nanoseconds)
        assert clock.now() == _EPOCH + milliseconds * _MILLISECOND
