"""Decides which connections to a TCP port are closed to make room for new connections.

If more than three quarters of the connections that a port may have are open, connections of unknown
callers are closed. So unknown callers can't occupy the last quarter of the connections. An unknown
caller's connection without a call under way is closed before one with a call. If two connections of
unknown callers both have a call under way, or both have none, the connection with the older last
call is closed first.

If more than fifteen sixteenths of the connections that a port may have are still open, idle
connections of known callers are closed, too. The known caller with the most connections loses
connections first. A connection on which a known caller has a call under way is never closed. All
functions are pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# Unknown callers may not use the last quarter of a port's connections (at least one connection).
# Idle connections of known callers may not use the last sixteenth (no connection, if the port may
# have fewer than 16).
_FREE_OF_STRANGERS, _FREE_OF_IDLE_CALLERS = 4, 16


@dataclass(frozen=True, slots=True)
class Seen:
    """A connection to one port. `active_at` is the time of the last call on the connection. If
    there was no call, `active_at` is the time at which the connection was first seen. `active_at`
    is in seconds, by any clock. `calls` is the number of calls under way. `caller` is None for an
    unknown caller.
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
