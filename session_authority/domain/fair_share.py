"""Shares a limited number of places fairly between callers.

Calls and streams occupy places while they are under way. They can't be stopped cheaply, so a caller
must leave places free before other callers come. A caller may hold up to eight times as many
places as are free. This is the dynamic threshold of switches with a shared buffer (Choudhury and
Hahne, 1998). A single caller can use eight ninths of the places. If several callers want all
places, their shares become equal. The module does not await, read a clock or use gRPC.
"""

from __future__ import annotations

# A caller may hold at most this many times the number of free places. Both numbers count after the
# caller has got the wanted places.
HELD_PER_FREE = 8


class FairShare:
    """A number of places, and how many of these places each caller holds, by the caller's name."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.held = 0
        self._held_by: dict[str, int] = {}

    def held_by(self, caller: str) -> int:
        """Returns the number of places that a caller holds."""
        return self._held_by.get(caller, 0)

    def most(self, *, sole: bool) -> int:
        """Returns the number of places that a caller can hold while no other caller holds any. A
        `sole` caller is the only possible caller, so it need not leave places free.
        """
        if sole:
            return self.places
        return max(HELD_PER_FREE * self.places // (HELD_PER_FREE + 1), 1)

    def fits(self, caller: str, wanted: int, *, sole: bool) -> bool:
        """Returns True if the caller may hold this many more places. A caller that holds no place
        may always take one, even the last free place. Other callers must leave the last place free,
        unless the caller is `sole`, the only possible caller.
        """
        free = self.places - self.held - wanted
        if free < 0 or sole:
            return free >= 0
        held = self._held_by.get(caller, 0)
        return held + wanted <= HELD_PER_FREE * free or (held == 0 and wanted == 1)

    def is_full(self, wanted: int) -> bool:
        """Returns True if fewer places than this are free, so that no caller could get them."""
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
