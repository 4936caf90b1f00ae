"""Names everything in Redis, and spreads users over partitions.

A user's sessions, devices and events are in one of 64 partitions. So they share one hash tag and
one cluster slot, and one script can change them together. The tags are chosen so that partitions
spread evenly over the masters of a cluster.
"""

from __future__ import annotations

import binascii
import hashlib
from functools import lru_cache
from uuid import UUID

from session_authority.domain.events import NOBODY, EventType

PARTITIONS = 64
SLOTS = 16384


def _slot(tag: str) -> int:
    """Returns the cluster slot of a hash tag (CRC-16/XMODEM, see the Redis Cluster
    specification).
    """
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


def _tags() -> tuple[str, ...]:
    """Returns the hash tags of the partitions. The tag of partition i is the smallest decimal whose
    slot lies in the i-th of 64 equal ranges of slots.
    """
    found: dict[int, str] = {}
    number = 0
    while len(found) < PARTITIONS:
        found.setdefault(_slot(str(number)) // (SLOTS // PARTITIONS), str(number))
        number += 1
    return tuple(found[i] for i in range(PARTITIONS))


TAGS = _tags()


# One call needs the partition of its user several times in a row.
@lru_cache(maxsize=1024)
def partition(user_id: str) -> int:
    """Returns the partition of a user, a number from 0 to 63."""
    return hashlib.sha256(user_id.encode()).digest()[0] % PARTITIONS


class KeyNames:
    """Makes the names of keys and channels. All names begin with one prefix."""

    def __init__(self, prefix: str = "sa") -> None:
        self._prefix = prefix
        self._heads = tuple(f"{prefix}:{{{tag}}}:" for tag in TAGS)
        self.wake_channel = f"{prefix}:wake"
        self.probe = f"{prefix}:probe"

    def _head(self, user_id: str) -> str:
        return self._heads[partition(user_id)]

    def sessions(self, user_id: str) -> str:
        """Names the hash from device key to session record."""
        return f"{self._head(user_id)}s:{user_id}"

    def devices(self, user_id: str) -> str:
        """Names the hash from device key to device record."""
        return f"{self._head(user_id)}d:{user_id}"

    def claims(self, user_id: str) -> str:
        """Names the hash from device key to the claims of the session, if the store has the
        claims.
        """
        return f"{self._head(user_id)}c:{user_id}"

    def request(self, user_id: str, request_id: UUID) -> str:
        """Names the string with the result of the sign-in with this `request_id`."""
        return (
            f"{self._head(user_id)}r:{user_id}:{hashlib.sha256(request_id.bytes).hexdigest()[:32]}"
        )

    def told(self, user_id: str, session_id: bytes, kind: EventType) -> str:
        """Names a string that exists if this session's quiet event of this kind was written in the
        last hour.
        """
        return f"{self._head(user_id)}x:{session_id.hex()}:{kind.value}"

    def told_of_key(self, kid: str) -> str:
        """Names a string that exists if the event about the revocation of this signing key was
        written in the last 500 days.
        """
        return f"{self._head(NOBODY)}k:{kid}"

    def told_of_removed_key(self, kid: str) -> str:
        """Names a string that exists if the event about the removal of this signing key was written
        in the last hour. The event is written if the key is removed before its tokens have ended.
        """
        return f"{self._head(NOBODY)}g:{kid}"

    def events(self, user_id: str) -> str:
        """Names the stream with the events of the user's partition."""
        return self.stream(partition(user_id))

    def stream(self, number: int) -> str:
        """Names the stream with the events of a partition, by its number."""
        return f"{self._heads[number]}e"

    def probe_in(self, number: int) -> str:
        """Names a key of a partition that holds no data. The key exists for about a millisecond,
        when `SessionStore.confirm` writes it.
        """
        return f"{self._heads[number]}probe"

    def probes(self) -> list[str]:
        """Returns the names of all keys of `probe_in`, one for each partition."""
        return [self.probe_in(number) for number in range(PARTITIONS)]

    def relays(self, endpoint: str) -> str:
        """Names the sorted set of the relays that are running and deliver to an endpoint."""
        return f"{self._prefix}:relays:{endpoint}"

    def lease(self, number: int, endpoint: str) -> str:
        """Names the string with the relay that delivers a partition's events to an endpoint."""
        return f"{self._heads[number]}l:{endpoint}"

    def attempts(self, number: int, endpoint: str) -> str:
        """Names the hash from entry to the failed attempts to deliver its event."""
        return f"{self._heads[number]}a:{endpoint}"

    def dead_letters(self, number: int, endpoint: str) -> str:
        """Names the stream with the events of a partition that could not be delivered to an
        endpoint.
        """
        return f"{self._heads[number]}z:{endpoint}"
