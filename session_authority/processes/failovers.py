"""Repeats the latest changes after a failover or a restart of a primary. After a failover, another
server is the primary, and may lack the latest changes. A restarted primary may lack the latest
changes, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from session_authority.domain.errors import AuthorityError
from session_authority.events.primaries import Primaries


class Failovers:
    """Checks for failovers and restarts of primaries, and repeats the latest changes after a
    failover or a restart.

    `primaries` returns the name of the primary of each partition, or None for a primary that gives
    no answer. `reassert` repeats the latest changes: if a primary has lost the write with which
    this process ended a session, `reassert` ends the session again.
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
        """Compares the names of the primaries with the names at the last check. Calls `reassert` if
        a primary has changed or restarted. If the store fails, the next check tries again.
        """
        try:
            self._owed |= self._primaries.are_others(await self._ask())
            if self._owed:
                await self._reassert()
                self._owed = False
        except AuthorityError:
            return
