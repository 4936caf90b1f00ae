"""Decides which connections of a port are closed to make room for new connections.

Connections of unknown callers are closed first: connections without a call before connections with
a call, and the longest silent connections first. In this way, a quarter of a port's connections
stays free for known callers. When known callers hold more than fifteen sixteenths of the
connections, idle connections of the caller with the most connections are closed. A connection on
which a known caller has a call is never closed. All functions are pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# A quarter of a port's connections (at least one) is kept free of unknown callers. A sixteenth is
# kept free of idle connections of known callers: none if the port may have fewer than 16.
_FREE_OF_STRANGERS, _FREE_OF_IDLE_CALLERS = 4, 16


@dataclass(frozen=True, slots=True)
class Seen:
    """A connection of one port. `active_at` is the time of the last call on the connection, or else
    the time at which the connection was first seen, in seconds of any clock. `calls` is the number
    of calls under way. `caller` is None for an unknown caller.
    """

    peer: str
    active_at: float
    calls: int = 0
    caller: str | None = None


def evicted(connections: Sequence[Seen], bound: int) -> list[Seen]:
    """Returns the connections to close on a port that may have at most `bound` connections."""
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
