"""Which connections of a port are closed, so that newcomers find room. Pure.

First go strangers: connections on which no caller was let in. Those without a call go before those
with one, and the longest silent one goes first. A quarter of a port's connections is kept free in
this way. Only when nearly all are taken, by callers, do idle connections of the caller go that has
the most. A connection on which a caller has a call is never closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# The part of a port's connections that strangers can't keep, and that idle callers can't.
_FREE_OF_STRANGERS, _FREE_OF_IDLE_CALLERS = 4, 16


@dataclass(frozen=True, slots=True)
class Seen:
    """A connection of one port. `active_at` is when its last call came, or it was first seen, in
    seconds of any clock. `caller` is None for a stranger.
    """

    peer: str
    active_at: float
    calls: int = 0
    caller: str | None = None


def evicted(connections: Sequence[Seen], bound: int) -> list[Seen]:
    """The connections that must go, of a port that may have so many."""
    over = len(connections) - (bound - max(bound // _FREE_OF_STRANGERS, 1))
    strangers = [seen for seen in connections if seen.caller is None]
    strangers.sort(key=lambda seen: (seen.calls > 0, seen.active_at))
    gone = strangers[: max(over, 0)]
    over = len(connections) - len(gone) - (bound - bound // _FREE_OF_IDLE_CALLERS)
    held = Counter(seen.caller for seen in connections)
    idle = [seen for seen in connections if seen.caller is not None and not seen.calls]
    idle.sort(key=lambda seen: seen.active_at)
    for _ in range(over):
        if not idle:
            break
        most = max(held[seen.caller] for seen in idle)
        chosen = next(seen for seen in idle if held[seen.caller] == most)
        idle.remove(chosen)
        held[chosen.caller] -= 1
        gone.append(chosen)
    return gone
