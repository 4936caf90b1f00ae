"""A wire that loses the reply to one change, after the store has carried it out."""

from __future__ import annotations

import asyncio

from session_authority.store import KeyNames
from tests.support.proxy import CONNECTION, Proxy


class LossyWire(Proxy):
    """Loses the reply to the next script for a user whom `lose_reply_about` names. The store gets
    the request, and the wire drops the reply. Then the wire cuts the connection, or sends nothing
    more over the connection.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.lost: set[str] = set()
        """The users about whom a reply was lost."""
        self._awaited: dict[bytes, tuple[str, bool]] = {}
        self._doomed: dict[int, bool] = {}
        self.on_request, self.on_reply = self._request, self._reply

    def lose_reply_about(self, user: str, *, silently: bool) -> None:
        """Loses the reply to the next script for this user."""
        self._awaited[KeyNames().sessions(user).encode()] = user, silently

    def spare(self, user: str) -> None:
        """Forgets this user, if no reply was lost so far."""
        self._awaited.pop(KeyNames().sessions(user).encode(), None)

    async def _request(self, data: bytes) -> None:
        if b"EVALSHA" not in data:
            return
        for key in [key for key in self._awaited if key + b"\r\n" in data]:
            user, silently = self._awaited.pop(key)
            self.lost.add(user)
            self._doomed[CONNECTION.get()] = silently

    async def _reply(self, _: bytes) -> None:
        silently = self._doomed.get(CONNECTION.get())
        if silently:
            await asyncio.Event().wait()
        if silently is False:
            raise ConnectionError
