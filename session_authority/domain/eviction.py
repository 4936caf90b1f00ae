"""Decides which connections of a port are closed to make room for new connections.

Connections of unknown callers are closed first. Among them, connections without a call come before
those with a call, and the one that was silent for longest comes first. In this way a quarter of a
port's connections stays free. When known callers hold nearly all connections, idle connections of
the caller with the most connections are closed. A connection on which a known caller has a call is
never closed. All functions are pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# A quarter of a port's connections is kept free of unknown callers, and a sixteenth is kept free of
# idle callers.
_FREE_OF_STRANGERS, _FREE_OF_IDLE_CALLERS = 4, 16


@dataclass(frozen=True, slots=True)
class Seen:
    """A connection of one port. `active_at` is the time of its last call, or else the time at which
    it was first seen, in seconds of any clock. `caller` is None for an unknown caller.
    """

    peer: str
    active_at: float
    calls: int = 0
    caller: str | None = None


def evicted(connections: Sequence[Seen], bound: int) -> list[Seen]:
    """The connections that are closed on a port which may have at most `bound` connections."""
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
