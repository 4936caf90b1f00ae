"""Notices when another server has become a primary, or when a primary has restarted, and repeats
the changes that this primary may lack.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from session_authority.domain.errors import AuthorityError
from session_authority.events.primaries import Primaries


class Failovers:
    """Repeats changes after a failover or a restart of a primary.

    `primaries` returns the name of the primary of each partition, or None for a primary that gives
    no answer. `reassert` repeats the latest changes.
    """

    def __init__(
        self,
        primaries: Callable[[], Awaitable[tuple[str | None, ...]]],
        reassert: Callable[[], Awaitable[object]],
    ) -> None:
        self._ask = primaries
        self._reassert = reassert
        self._primaries = Primaries()
        self._owed = False

    async def look(self) -> None:
        """Checks for a failover now. If the store fails, the next check tries again."""
        try:
            self._owed |= self._primaries.are_others(await self._ask())
            if self._owed:
                await self._reassert()
                self._owed = False
        except AuthorityError:
            return
