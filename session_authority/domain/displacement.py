"""Decides which stream of an unknown caller ends when all places for unknown callers are occupied.

Unknown callers have no names, only addresses and connections. So a new stream ends a stream of the
address that has the most streams. At this address, the oldest stream of the connection with the
most streams ends. This address must have more streams than the address of the new stream. If both
addresses are the same, the connection must have more streams than the connection of the new stream.
Otherwise the new stream is refused.

A caller who is alone at an address, with one watch, does not lose this watch while any other
address has two streams or more. The watch can end if each address has only one stream. All
functions are pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def displaced(connections: Sequence[str], newcomer: str) -> int | None:
    """Returns the index of the stream that ends. None if the new stream is refused instead.

    Args:
        connections: The peer of each stream that is under way, such as `ipv4:192.0.2.1:50000`, the
            oldest stream first.
        newcomer: The peer that opens another stream.
    """
    by_address = Counter(map(_address, connections))
    by_connection = Counter(connections)

    def crowd(index: int) -> tuple[int, int]:
        connection = connections[index]
        return by_address[_address(connection)], by_connection[connection]

    chosen = max(range(len(connections)), key=crowd, default=None)  # the oldest one of equals
    if chosen is None:
        return None
    own = _address(newcomer)
    if _address(connections[chosen]) == own:
        more = by_connection[connections[chosen]] > by_connection[newcomer]
    else:
        more = by_address[_address(connections[chosen])] > by_address[own]
    return chosen if more else None


def _address(peer: str) -> str:
    return peer.rpartition(":")[0]
