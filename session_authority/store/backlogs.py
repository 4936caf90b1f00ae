"""Counts for an operator the events that wait for delivery to each endpoint.

`Backlogs.look` sends one command for each partition, and one for each endpoint in each partition.
In each partition where events of an endpoint wait, `look` sends one or two more commands. `look`
needs only the Redis permissions of a relay, and changes nothing in Redis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from session_authority.domain.moments import from_ms
from session_authority.store.deliveries import CONSUMER, Deliveries, groups_of
from session_authority.store.key_names import PARTITIONS
from session_authority.store.log_position import EntryId, entry_id

# If Redis does not report how many entries a consumer group has not read, this module counts the
# entries, up to this limit in each partition. Redis before version 7 never reports how many entries
# are unread, and later versions do not always know.
MAX_COUNTED_PER_PARTITION = 100


@dataclass(frozen=True, slots=True)
class Backlog:
    """Says how many events an endpoint has not received yet, and how many dead letters it has.

    `events` may be too low if Redis did not report the number, see `MAX_COUNTED_PER_PARTITION`.
    `oldest_at` is when Redis stored the oldest event that waits, by the clock of Redis (None: no
    event waits).
    """

    events: int
    oldest_at: datetime | None
    dead_letters: int


class Backlogs:
    """Reads the backlogs of endpoints."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._keys, self._reads = deliveries.keys, deliveries.reads

    async def look(self, endpoints: Sequence[str]) -> dict[str, Backlog]:
        """Returns the backlog of each endpoint, by the endpoint's name. Raises StoreUnavailable if
        Redis is unreachable, slow, or refuses a command.
        """
        groups = await groups_of(self._reads, self._keys)
        return {name: await self._of(name, [g.get(name, {}) for g in groups]) for name in endpoints}

    async def _of(self, endpoint: str, groups: Sequence[Mapping[str, Any]]) -> Backlog:
        """Reads the backlog of one endpoint. `groups` has the endpoint's consumer group in each
        partition, or an empty mapping if the partition has no such group.
        """
        dead = await self._reads.ask(
            [("XLEN", self._keys.dead_letters(n, endpoint)) for n in range(PARTITIONS)]
        )
        taken = {n: int(group["pending"]) for n, group in enumerate(groups) if group}
        unread: dict[int, Any] = {n: group.get("lag") for n, group in enumerate(groups) if group}
        oldest = await self._oldest_taken(endpoint, [n for n, count in taken.items() if count])
        behind = [n for n, lag in unread.items() if lag is None or int(lag)]
        first, found = await self._unread(groups, behind)
        counted = sum(int(found[n] if unread[n] is None else unread[n]) for n in behind)
        moments = [entry[0] for entry in (oldest, first) if entry is not None]
        return Backlog(
            events=sum(taken.values()) + counted,
            oldest_at=from_ms(min(moments)) if moments else None,
            dead_letters=sum(map(int, dead)),
        )

    async def _oldest_taken(self, endpoint: str, numbers: Sequence[int]) -> EntryId | None:
        """Returns the ID of the oldest event of these partitions whose delivery a relay has begun
        but not ended. Returns None if no delivery is under way.
        """
        replies = await self._reads.ask(
            [
                ("XREADGROUP", "GROUP", endpoint, CONSUMER, "COUNT", "1", "STREAMS", stream, "0")
                for stream in map(self._keys.stream, numbers)
            ]
        )
        entries = [entry_id(reply[0][1][0][0]) for reply in replies if reply and reply[0][1]]
        return min(entries, default=None)

    async def _unread(
        self, groups: Sequence[Mapping[str, Any]], numbers: Sequence[int]
    ) -> tuple[EntryId | None, dict[int, int]]:
        """Reads the events of these partitions that no relay has taken yet. Returns the ID of the
        oldest event (None: no event), and the number of events that were read in each partition. If
        Redis itself counts the events that no relay has taken, only the first event is read.
        """
        replies = await self._reads.ask(
            [
                (
                    *("XRANGE", self._keys.stream(n), f"({groups[n]['last-delivered-id']}", "+"),
                    *("COUNT", str(MAX_COUNTED_PER_PARTITION if _uncounted(groups[n]) else 1)),
                )
                for n in numbers
            ]
        )
        found = dict(zip(numbers, map(len, replies), strict=True))
        return min((entry_id(reply[0][0]) for reply in replies if reply), default=None), found


def _uncounted(group: Mapping[str, Any]) -> bool:
    return group.get("lag") is None
