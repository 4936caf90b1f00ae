"""How many events a partition may have under way: by number, and by size."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from session_authority.domain.addresses import AddressDetail
from session_authority.relay import window
from session_authority.relay.window import Window
from session_authority.store.deliveries import TakenEvent
from session_authority.store.log_position import event_id

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MS = timedelta(milliseconds=1)


def taken(number: int, size_bytes: int) -> TakenEvent:
    return TakenEvent((number, 0), event_id(7, (number, 0)), AddressDetail.FULL, bytes(size_bytes))


@pytest.mark.parametrize("size_bytes", [0, 267, 512, 648, 4096])
def test_the_memory_of_one_partition_is_as_small_as_documented(size_bytes: int) -> None:
    """docs/operations.md says 4 MiB, and 64 times as much for an endpoint."""
    full = Window()
    tracemalloc.start()
    number = 0
    while room := full.room():
        for _ in range(room):
            number += 1
            full.add("ada", taken(1_768_000_000_000 + number, size_bytes), NOON + number * MS)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes < 4 * 1024 * 1024


def filled(size_bytes: int) -> list[str]:
    """Fills a window with events of this size, of one user. Checks that the window empties
    again.
    """
    full = Window()
    users = []
    while full.room():
        users.append("ada")
        full.add("ada", taken(len(users), size_bytes), NOON)
        assert len(users) <= window._MAX_EVENTS_IN_MEMORY
    full.remove_first("ada")
    assert full.room(), "there is room again"
    for _ in users[1:]:
        full.remove_first("ada")
    assert full.room() == Window().room()
    return users


def test_small_events_are_bounded_by_their_number() -> None:
    assert len(filled(100)) == window._MAX_EVENTS_IN_MEMORY


def test_large_events_are_bounded_by_their_size() -> None:
    """The window keeps the events of a user whose events can't be delivered, up to this size."""
    size = 16 * 1024
    assert len(filled(size)) * size == window.MAX_BYTES_IN_MEMORY
