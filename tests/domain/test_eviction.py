"""Which connections of a port are closed to make room for new ones, as a table."""

from __future__ import annotations

import pytest

from session_authority.domain.eviction import Seen, evicted

BOUND = 16  # strangers must leave a quarter free, and idle callers one sixteenth


def stranger(number: int, *, calls: int = 0) -> Seen:
    """A stranger's connection. `number` is the time of its last activity."""
    return Seen(f"stranger-{number}", number, calls)


def caller(name: str, number: int, *, calls: int = 0) -> Seen:
    """A caller's connection. `number` is the time of its last activity."""
    return Seen(f"{name}-{number}", number, calls, name)


def strangers(count: int) -> list[Seen]:
    """Idle connections of strangers, the longest idle first."""
    return [stranger(number) for number in range(count)]


def idle(name: str, count: int) -> list[Seen]:
    """A caller's idle connections, the longest idle first."""
    return [caller(name, number) for number in range(count)]


def busy(name: str, count: int) -> list[Seen]:
    """A caller's connections, each with a call."""
    return [caller(name, number, calls=1) for number in range(count)]


@pytest.mark.parametrize(
    ("connections", "gone"),
    [
        ([], []),
        (strangers(12), []),
        (strangers(13), ["stranger-0"]),
        (strangers(16)[::-1], ["stranger-0", "stranger-1", "stranger-2", "stranger-3"]),
        # A stranger with a call stays longer than one without.
        ([stranger(0, calls=1), *strangers(13)[1:]], ["stranger-1"]),
        # Callers stay, strangers go, however long a caller has been idle.
        ([*idle("a", 12), stranger(99)], ["stranger-99"]),
        (idle("a", 10) + strangers(6), [f"stranger-{number}" for number in range(4)]),
        # Without strangers, idle callers may keep all connections but one sixteenth.
        (idle("a", 15), []),
        (idle("a", 16), ["a-0"]),
        (idle("a", 10) + idle("b", 6), ["a-0"]),
        (idle("b", 6) + idle("a", 10), ["a-0"]),
        # A caller's connection with a call never goes.
        (busy("a", 16), []),
        ([*busy("a", 15), caller("b", 99)], ["b-99"]),
        (busy("a", 14) + idle("b", 1) + idle("c", 1), ["b-0"]),
    ],
)
def test_only_the_connections_of_the_table_are_evicted(connections: list[Seen], gone: list[str]):
    assert [seen.peer for seen in evicted(connections, BOUND)] == gone


@pytest.mark.parametrize("bound", [1, 2, 16, 64, 370, 2000])
def test_strangers_always_leave_a_quarter_free(bound: int):
    crowd = strangers(bound)
    assert len(crowd) - len(evicted(crowd, bound)) == bound - max(bound // 4, 1)
