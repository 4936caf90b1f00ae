"""Notices when a replica has become a primary, and repeats the changes that this replica may
lack.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from session_authority.domain.errors import AuthorityError
from session_authority.events.primaries import Primaries


class Failovers:
    """Repeats changes after a failover.

    `primaries` returns the name of each partition's primary. `reassert` repeats the latest changes.
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
        """Checks for a failover now. If the store fails, the work is left for the next check."""
        try:
            self._owed |= self._primaries.are_others(await self._ask())
            if self._owed:
                await self._reassert()
                self._owed = False
        except AuthorityError:
            return
