"""The memory of sessions that ended recently."""

from __future__ import annotations

import gc
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest

from session_authority.authority import reassertions
from session_authority.authority.reassertions import MEMORY, Reassertions
from session_authority.store.records import RemovedSessions
from tests.store.samples import event
from tests.support.clock import Clock

NOBODY_ASKED: Any = None


def _records(first: int, count: int) -> RemovedSessions:
    """Returns removed records, each as large as a session record."""
    return RemovedSessions(tuple((first + number).to_bytes(61) for number in range(count)))


def test_many_ended_sessions_of_few_users_use_bounded_memory():
    """One call can end as many as 10,000 sessions: the bound counts sessions, not only calls."""
    ended = Reassertions(NOBODY_ASKED, Clock(), NOBODY_ASKED)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(300):
            ended.note(f"user-{number}", _records(1000 * number, 1000), event(f"user-{number}"))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10 * 2**20


def test_entries_of_sessions_that_ended_long_ago_are_removed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reassertions, "_MOST_ENDS", 10)
    clock = Clock()
    ended = Reassertions(NOBODY_ASKED, clock, NOBODY_ASKED)
    for number in range(20):
        ended.note("ada", _records(number, 1), event("ada"))
    assert len(ended._ended) == 10
    clock.advance(MEMORY + timedelta(seconds=1))
    ended.note("ada", _records(99, 1), event("ada"))
    assert len(ended._ended) == ended._sessions == 1
