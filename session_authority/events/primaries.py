"""Notes which primary serves each partition. A reader of the log must know when another primary
takes over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Changes:
    """The partitions whose primary has changed since the last look.

    `restarted` has the partitions whose primary was restarted on the same server. `moved` has the
    partitions that another server serves now. If only one server serves all partitions, the two
    cases can't be distinguished, and each change counts as `moved`.
    """

    restarted: frozenset[int] = frozenset()
    moved: frozenset[int] = frozenset()


class Primaries:
    """The names of the primaries of all partitions, as `EventLog.primaries` returns them."""

    def __init__(self, names: Iterable[str | None] = ()) -> None:
        self._names = list(names)

    def are_others(self, names: Iterable[str | None]) -> bool:
        """Notes the names. Returns True if the primary of a partition has changed. A primary that
        gives no answer counts as unchanged.
        """
        return self.changes(names) != Changes()

    def changes(self, names: Iterable[str | None]) -> Changes:
        """Notes the names, and returns the changes. A partition counts as unchanged if its primary
        gives no answer.
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
        """These partitions, and all other partitions that the same primaries serve."""
        names = {self._names[number] for number in numbers} - {None}
        others = (number for number, name in enumerate(self._names) if name in names)
        return frozenset(numbers).union(others)


def _server_of(name: str) -> str:
    return name.partition(" ")[0]
