"""Which stream of strangers makes room for another one, when all their places are taken.

Strangers have no names to be fair by, but addresses and connections. So the newcomer takes a place
from the address, and there from the connection, that has the most; nobody who is content with one
watch loses it to a flood from elsewhere. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def displaced(connections: Sequence[str], newcomer: str) -> int | None:
    """The index of the stream that must go, None if the newcomer must.

    Args:
        connections: The peer of each stream that is under way, such as `ipv4:192.0.2.1:50000`, the
            oldest stream first.
        newcomer: The peer that wants one more.
    """
    by_address = Counter(map(_address, connections))
    by_connection = Counter(connections)

    def crowd(index: int) -> tuple[int, int]:
        connection = connections[index]
        return by_address[_address(connection)], by_connection[connection]

    chosen = max(range(len(connections)), key=crowd, default=None)  # of equals the oldest
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
