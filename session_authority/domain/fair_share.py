"""Shares a limited number of places fairly between callers. A place is a unit of capacity: a call
or a stream occupies one or more places while it is under way.

Running calls and streams can't be stopped cheaply. So a caller must leave some places free, even if
no other caller needs these places yet. A caller may hold up to eight times as many places as are
free. A limit that depends on the free places is called a dynamic threshold. Network switches use
dynamic thresholds for a shared buffer (Choudhury and Hahne, 1998). A single caller can use eight
ninths of the places. If several callers want all places, their shares become equal.

The module does not await, read a clock or use gRPC.
"""

from __future__ import annotations

# A caller may hold at most this many times the number of free places. The held places and the free
# places are counted after the caller has got the wanted places.
HELD_PER_FREE = 8


class FairShare:
    """Counts the places that each caller holds, out of the number `places` of all places."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.held = 0
        self._held_by: dict[str, int] = {}

    def held_by(self, caller: str) -> int:
        """Returns the number of places that a caller holds."""
        return self._held_by.get(caller, 0)

    def most(self, *, sole: bool) -> int:
        """Returns the number of places that one caller can hold while no other caller holds any. If
        `sole` is true, no other caller is possible, so the caller need not leave places free.
        """
        if sole:
            return self.places
        return max(HELD_PER_FREE * self.places // (HELD_PER_FREE + 1), 1)

    def fits(self, caller: str, wanted: int, *, sole: bool) -> bool:
        """Returns True if the caller may get `wanted` more places. A caller that holds no place may
        get one even if it is the last free place. A caller that holds a place must leave at least
        one place free, unless `sole` is true: no other caller is possible.
        """
        free = self.places - self.held - wanted
        if free < 0 or sole:
            return free >= 0
        held = self._held_by.get(caller, 0)
        return held + wanted <= HELD_PER_FREE * free or (held == 0 and wanted == 1)

    def is_full(self, wanted: int) -> bool:
        """Returns True if fewer than `wanted` places are free, so that no caller could get them."""
        return self.places - self.held < wanted

    def take(self, caller: str, wanted: int) -> None:
        """Gives `wanted` places to a caller, without checking that this many are free."""
        self.held += wanted
        self._held_by[caller] = self._held_by.get(caller, 0) + wanted

    def give_back(self, caller: str, places: int) -> None:
        """Frees places that a caller held."""
        self.held -= places
        left = self._held_by.get(caller, 0) - places
        if left:
            self._held_by[caller] = left
        else:
            self._held_by.pop(caller, None)
