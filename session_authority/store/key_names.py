"""Makes the names of all keys and channels in Redis, and assigns users to partitions.

The sessions, devices and events of a user belong to one of 64 partitions. All keys of a partition
have the same hash tag, so these keys are in one slot of a cluster. So one script can change these
keys together. The hash tags are chosen so that the partitions are spread evenly over the primaries
of a cluster.
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
    """Returns the hash tags of the partitions. The tag of partition i is the smallest decimal
    number whose slot lies in range i, when all slots are divided into 64 equal ranges.
    """
    found: dict[int, str] = {}
    number = 0
    while len(found) < PARTITIONS:
        found.setdefault(_slot(str(number)) // (SLOTS // PARTITIONS), str(number))
        number += 1
    return tuple(found[i] for i in range(PARTITIONS))


TAGS = _tags()


# The cache helps because one call of the service needs the partition of its user several times.
@lru_cache(maxsize=1024)
def partition(user_id: str) -> int:
    """Returns the partition of a user, a number from 0 to 63."""
    return hashlib.sha256(user_id.encode()).digest()[0] % PARTITIONS


class KeyNames:
    """Makes the names of keys and channels. All names begin with the prefix of the service."""

    def __init__(self, prefix: str = "sa") -> None:
        self._prefix = prefix
        self._heads = tuple(f"{prefix}:{{{tag}}}:" for tag in TAGS)
        self.wake_channel = f"{prefix}:wake"
        self.probe = f"{prefix}:probe"

    def _head(self, user_id: str) -> str:
        return self._heads[partition(user_id)]

    def sessions(self, user_id: str) -> str:
        """Returns the name of the hash with the session records of a user, by device key."""
        return f"{self._head(user_id)}s:{user_id}"

    def devices(self, user_id: str) -> str:
        """Returns the name of the hash with the device records of a user, by device key."""
        return f"{self._head(user_id)}d:{user_id}"

    def claims(self, user_id: str) -> str:
        """Returns the name of the hash with the claims of a user's sessions, by device key. The
        hash has no claims for a session whose claims are only in its tokens.
        """
        return f"{self._head(user_id)}c:{user_id}"

    def request(self, user_id: str, request_id: UUID) -> str:
        """Returns the name of the string with the result of the sign-in with this `request_id`."""
        return (
            f"{self._head(user_id)}r:{user_id}:{hashlib.sha256(request_id.bytes).hexdigest()[:32]}"
        )

    def told(self, user_id: str, session_id: bytes, kind: EventType) -> str:
        """Returns the name of a string that exists if a quiet event of this type about this session
        was written in the last hour.
        """
        return f"{self._head(user_id)}x:{session_id.hex()}:{kind.value}"

    def told_of_key(self, kid: str) -> str:
        """Returns the name of a string that exists if the event about the revocation of the signing
        key `kid` was written in the last 500 days.
        """
        return f"{self._head(NOBODY)}k:{kid}"

    def told_of_removed_key(self, kid: str) -> str:
        """Returns the name of a string that exists if the event about the removal of the signing
        key `kid` was written in the last hour. The service writes the event if a signing key is
        removed before all tokens that it signed have ended.
        """
        return f"{self._head(NOBODY)}g:{kid}"

    def events(self, user_id: str) -> str:
        """Returns the name of the stream with the events of the user's partition."""
        return self.stream(partition(user_id))

    def stream(self, number: int) -> str:
        """Returns the name of the stream with the events of partition `number`."""
        return f"{self._heads[number]}e"

    def probe_in(self, number: int) -> str:
        """Returns the name of a key in a partition that never contains data. `SessionStore.confirm`
        writes the key, which then exists for about a millisecond.
        """
        return f"{self._heads[number]}probe"

    def probes(self) -> list[str]:
        """Returns the name of the `probe_in` key for each partition."""
        return [self.probe_in(number) for number in range(PARTITIONS)]

    def relays(self, endpoint: str) -> str:
        """Returns the name of the sorted set of the relays that are alive and deliver to an
        endpoint.
        """
        return f"{self._prefix}:relays:{endpoint}"

    def lease(self, number: int, endpoint: str) -> str:
        """Returns the name of the string that says which relay holds the lease of a partition for
        an endpoint.
        """
        return f"{self._heads[number]}l:{endpoint}"

    def attempts(self, number: int, endpoint: str) -> str:
        """Returns the name of the hash with the failed attempts to deliver a partition's events to
        an endpoint. Each field is the ID of an event's entry.
        """
        return f"{self._heads[number]}a:{endpoint}"

    def dead_letters(self, number: int, endpoint: str) -> str:
        """Returns the name of the stream with the events of a partition that could not be delivered
        to an endpoint.
        """
        return f"{self._heads[number]}z:{endpoint}"
