"""How many events a partition may have under way: by their number, and by their size."""

from __future__ import annotations

from datetime import UTC, datetime

from session_authority.relay import window
from session_authority.relay.window import Window
from session_authority.store.deliveries import TakenEvent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def taken(number: int, size_bytes: int) -> TakenEvent:
    return TakenEvent((number, 0), f"evt_{number}", None, bytes(size_bytes))


def filled(size_bytes: int) -> list[str]:
    """Fills a window with events of that size, of one user; checks that it empties again."""
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
    """Of users whose events can't be delivered all are kept, and of each partition."""
    size = 16 * 1024
    assert len(filled(size)) * size == window.MAX_BYTES_IN_MEMORY
