"""Shares a limited number of places fairly between callers.

A call that is under way can't be stopped cheaply, so a caller must leave places free before other
callers come. A caller may hold up to eight times as many places as are free. This is the dynamic
threshold of switches with a shared buffer (Choudhury and Hahne, 1998). A single caller can use
eight ninths of the places. If several callers want all places, their shares become equal. The
functions are pure: they do not await, read a clock or use gRPC.
"""

from __future__ import annotations

# A caller may hold this many times the number of places that are still free afterwards.
HELD_PER_FREE = 8


class FairShare:
    """A number of places, and how many of them each caller holds. Callers are known by name."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.held = 0
        self._held_by: dict[str, int] = {}

    def held_by(self, caller: str) -> int:
        """The number of places that a caller holds."""
        return self._held_by.get(caller, 0)

    def most(self, *, sole: bool) -> int:
        """The number of places that a caller can hold while no other caller holds any. A `sole`
        caller is the only possible caller, so it need not leave places free.
        """
        if sole:
            return self.places
        return max(HELD_PER_FREE * self.places // (HELD_PER_FREE + 1), 1)

    def fits(self, caller: str, wanted: int, *, sole: bool) -> bool:
        """Returns True if the caller may hold this many more places. The last free place is
        reserved for a caller that holds none.
        """
        free = self.places - self.held - wanted
        if free < 0 or sole:
            return free >= 0
        held = self._held_by.get(caller, 0)
        return held + wanted <= HELD_PER_FREE * free or (held == 0 and wanted == 1)

    def is_full(self, wanted: int) -> bool:
        """Returns True if no caller could get this many places now."""
        return self.places - self.held < wanted

    def take(self, caller: str, wanted: int) -> None:
        """Gives places to a caller without checking that they fit."""
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
