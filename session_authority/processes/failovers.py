"""Notices that a replica was promoted, and repeats the changes that it may lack."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from session_authority.domain.errors import AuthorityError
from session_authority.events.primaries import Primaries


class Failovers:
    """Repeats changes after a failover. `primaries` names the primary of each partition. `reassert`
    repeats the latest changes.
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
        """Checks once. Work that fails is done at the next check."""
        try:
            self._owed |= self._primaries.are_others(await self._ask())
            if self._owed:
                await self._reassert()
                self._owed = False
        except AuthorityError:
            return
