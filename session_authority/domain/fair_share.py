"""Who may have one more place of a limited number, when callers compete for them.

A call that is under way can't be taken back cheaply, so a caller must leave places to others before
they come: it may hold as much as eight times what is free (the dynamic threshold of switches with a
shared buffer; Choudhury and Hahne, 1998). Alone it can use eight ninths; of several that want
everything each comes to hold the same. Pure: nothing here awaits, reads a clock or knows gRPC.
"""

from __future__ import annotations

# A caller may hold this many times what is left free after that.
HELD_PER_FREE = 8


class FairShare:
    """A number of places, and how many each caller holds, by its name."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.held = 0
        self._held_by: dict[str, int] = {}

    def held_by(self, caller: str) -> int:
        """How many places a caller holds."""
        return self._held_by.get(caller, 0)

    def most(self, *, sole: bool) -> int:
        """How many places a caller can hold that is alone. A `sole` caller is the only one that
        there can be: it has nobody to leave places to.
        """
        if sole:
            return self.places
        return max(HELD_PER_FREE * self.places // (HELD_PER_FREE + 1), 1)

    def fits(self, caller: str, wanted: int, *, sole: bool) -> bool:
        """Whether a caller may hold so many places more. The last free one is for a caller that
        holds none.
        """
        free = self.places - self.held - wanted
        if free < 0 or sole:
            return free >= 0
        held = self._held_by.get(caller, 0)
        return held + wanted <= HELD_PER_FREE * free or (held == 0 and wanted == 1)

    def is_full(self, wanted: int) -> bool:
        """Whether no caller could have so many places now."""
        return self.places - self.held < wanted

    def take(self, caller: str, wanted: int) -> None:
        """Gives a caller places, fitting or not."""
        self.held += wanted
        self._held_by[caller] = self._held_by.get(caller, 0) + wanted

    def give_back(self, caller: str, places: int) -> None:
        """Takes places back that a caller held."""
        self.held -= places
        left = self._held_by.get(caller, 0) - places
        if left:
            self._held_by[caller] = left
        else:
            self._held_by.pop(caller, None)
