"""Records which Redis primary serves each partition. If a primary was replaced or restarted, it may
have lost events, so the reader of the log must know about the change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Changes:
    """Lists the partitions whose primary has changed since the previous check.

    `restarted` has the partitions whose primary was restarted on the same server. `moved` has the
    partitions that another server serves now. Outside of a cluster, a restart can't be
    distinguished from a move, so each change counts as `moved`.
    """

    restarted: frozenset[int] = frozenset()
    moved: frozenset[int] = frozenset()


class Primaries:
    """Stores the names of the primaries of all partitions, as `EventLog.primaries` returns them."""

    def __init__(self, names: Iterable[str | None] = ()) -> None:
        self._names = list(names)

    def are_others(self, names: Iterable[str | None]) -> bool:
        """Stores these names in place of the known names. Returns True if the primary of a
        partition has changed. A name that is None means that the primary did not answer, and counts
        as unchanged.
        """
        return self.changes(names) != Changes()

    def changes(self, names: Iterable[str | None]) -> Changes:
        """Stores these names in place of the known names, and returns the changes. A name that is
        None means that the primary did not answer, and counts as unchanged.
        """
        known, found = self._names, list(names)
        if not known:
            self._names = found
            return Changes()
        self._names = [old if new is None else new for old, new in zip(known, found, strict=True)]
        changed = {
            number: _server_of(old) == _server_of(new)
            for number, (old, new) in enumerate(zip(known, self._names, strict=True))
            if old is not None and new is not None and old != new
        }
        restarted = frozenset(number for number, same_server in changed.items() if same_server)
        return Changes(restarted, frozenset(changed) - restarted)

    def with_same_primary(self, numbers: Collection[int]) -> frozenset[int]:
        """Returns these partitions, and all other partitions that have the same primaries."""
        names = {self._names[number] for number in numbers} - {None}
        others = (number for number, name in enumerate(self._names) if name in names)
        return frozenset(numbers).union(others)


def _server_of(name: str) -> str:
    return name.partition(" ")[0]
