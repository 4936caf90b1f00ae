"""Who serves each partition, as far as is known: a reader of the log must know when it is another
one.
"""

from __future__ import annotations

from collections.abc import Iterable


class Primaries:
    """The names of the primaries, as `EventLog.primaries` gives them."""

    def __init__(self, names: Iterable[str | None] = ()) -> None:
        self._names = list(names)

    def are_others(self, names: Iterable[str | None]) -> bool:
        """Whether a partition is served by another primary than before. One that can't be asked
        counts as the same.
        """
        known, found = self._names, list(names)
        if not known:
            self._names = found
            return False
        self._names = [old if new is None else new for old, new in zip(known, found, strict=True)]
        return any(
            old is not None and old != new for old, new in zip(known, self._names, strict=True)
        )
