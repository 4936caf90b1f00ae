"""Publishes the public signing keys. Writes events about signing keys that were revoked, or that
were removed before the tokens that they signed had expired.
"""

from __future__ import annotations

from datetime import datetime

from session_authority.authority.resources import Resources
from session_authority.domain.events import NOBODY, Event, EventType
from session_authority.store.records import Commit, Once


class SigningKeys:
    """Carries out GetSigningKeys, and writes the events about revoked keys."""

    def __init__(self, resources: Resources) -> None:
        self._store = resources.store
        self._tokens = resources.tokens
        self._clock = resources.clock
        self.told_revoked: set[str] = set()
        self.told_vanished: set[str] = set()

    def signing_keys(self) -> list[dict[str, str]]:
        """Returns the public keys, as JWKs (RFC 7517)."""
        return self._tokens.public_jwks()

    async def tell_of_revoked_keys(self) -> None:
        """Writes one event for each revoked key, even if several processes notice the revocation.
        Other services need the event because their caches may still hold tokens that the key
        signed.

        A key that was removed before its tokens had expired counts as revoked, because its tokens
        are void, too. A removed key may be added and removed again. So for each key, there is at
        most one event in an hour about its removal.
        """
        now = self._clock()
        revoked, vanished = self._tokens.void_keys(now)
        self.told_vanished &= vanished  # forgets keys that were added again
        for kid in revoked - self.told_revoked:
            await self._tell_of(kid, self._store.once_for_key(kid), now)
            self.told_revoked.add(kid)
        for kid in vanished - self.told_vanished:
            await self._tell_of(kid, self._store.once_for_removed_key(kid), now)
            self.told_vanished.add(kid)

    async def _tell_of(self, kid: str, once: Once, now: datetime) -> None:
        event = Event(EventType.SIGNING_KEY_REVOKED, now, user_id=NOBODY, actor="", key_id=kid)
        await self._store.commit(Commit(NOBODY, now, once=once, events=(event,)))
