"""Decides which stream of an unknown caller ends when unknown callers occupy all their slots and
another unknown caller opens a stream.

The service can't tell unknown callers apart by name, but only by address and connection. So this
module first chooses the address that has the most streams. At the chosen address, the module
chooses the connection that has the most streams. The oldest stream of the chosen connection ends if
the chosen address has more streams than the address of the new stream. If the chosen address is the
address of the new stream, the chosen connection must have more streams than the connection of the
new stream. If these rules end no stream, the new stream is refused.

A caller who is alone at an address, with one watch, does not lose this watch while any other
address has two streams or more. If each address has only one stream, a caller with one watch may
lose the watch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def displaced(connections: Sequence[str], newcomer: str) -> int | None:
    """Returns the index of the stream that ends. Returns None if the new stream is refused instead.

    Args:
        connections: The peer of each stream that is under way, such as `ipv4:192.0.2.1:50000`. The
            peer of the oldest stream comes first.
        newcomer: The peer that opens another stream.
    """
    by_address = Counter(map(_address, connections))
    by_connection = Counter(connections)

    def crowd(index: int) -> tuple[int, int]:
        connection = connections[index]
        return by_address[_address(connection)], by_connection[connection]

    chosen = max(range(len(connections)), key=crowd, default=None)  # the oldest stream of equals
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
