"""Reads the log of events in Redis. The log has one stream for each of the 64 partitions, and a
channel that announces which streams have new events.

A reader's position in a stream is the last entry that was read. The next read begins with the last
entry that was read, to see if this entry still exists. If this entry exists, no later entry is
missing, because the IDs in a stream only grow. The IDs grow even after a failover or a change of
clocks. If the entry at the position no longer exists, the log was trimmed, or Redis has another
log, for example after a loss of data.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from session_authority.domain.addresses import AddressDetail
from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.events import RecordedEvent
from session_authority.domain.moments import from_ms, to_ms
from session_authority.store import codec
from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.connection import RedisClient
from session_authority.store.driver.errors import (
    ResponseError,
    driver_errors_translated,
    unavailable,
)
from session_authority.store.driver.read_paths import read_path_of
from session_authority.store.driver.reads import Reads
from session_authority.store.driver.replies import fields_of, info_fields
from session_authority.store.driver.subscription import messages_on
from session_authority.store.key_names import PARTITIONS, KeyNames
from session_authority.store.log_position import (
    START,
    EntryId,
    LogPosition,
    behind_moment,
    entry_id,
    entry_text,
    event_id,
    is_moment,
)

# How long the log keeps an event by default.
EVENT_MEMORY = timedelta(days=7)
MAX_EVENTS_PER_PARTITION = 100_000
# An event log needs one connection for reads, and one connection on which it waits for new events.
EVENT_LOG_CONNECTIONS = 2
# `trim_margin` divides the time for which events are kept by this number.
_MARGIN_PARTS = 12
# How far the clock of this process may differ from the clock of a Redis primary.
_CLOCKS_DIFFER = timedelta(seconds=5)
EVENT_FIELD = b"event"

_log = structlog.get_logger(__name__)


def trim_margin(memory: timedelta) -> timedelta:
    """Returns the margin for reads of old entries: an entry counts as trimmed this long before the
    log removes it. The margin is at most an hour. A margin is needed because clocks differ, and
    because a read takes time. `memory` is how long the log keeps an event.
    """
    return min(timedelta(hours=1), memory / _MARGIN_PARTS)


class HistoryGone(Exception):
    """Events after a reader's position are no longer in the log, because the log was trimmed, or
    because Redis now has another log.
    """


@dataclass(frozen=True, slots=True)
class Page:
    """The events of a stream that one read returned. Events that can't be decoded are left out.

    `last` is the last entry that was read, or the position at which the read began if no entry was
    read. `more` is True if the stream may have further entries.
    """

    events: tuple[tuple[EntryId, RecordedEvent], ...]
    last: EntryId
    more: bool


class EventLog:
    """Reads the log of events. If Redis is unreachable, slow, or refuses a command, the methods
    raise StoreUnavailable. But `read` returns StoreUnavailable as the result of a partition, and
    `wakes` and `listening` do not raise StoreUnavailable.

    `memory` is how long the log keeps an event. `addresses` says how exactly IP addresses are
    returned, even if the log contains more exact addresses.
    """

    def __init__(
        self,
        client: RedisClient,
        keys: KeyNames,
        memory: timedelta = EVENT_MEMORY,
        addresses: AddressDetail = AddressDetail.FULL,
    ) -> None:
        self.memory = memory
        self._addresses = addresses
        self._client = client
        self._keys = keys
        self._path = read_path_of(client, keys.probe)
        self._reads = Reads(self._path)

    async def primaries(self) -> tuple[str | None, ...]:
        """Returns, for each partition, a name for the current run of the partition's primary. If
        the name changes, another primary serves the partition, or the primary was restarted.

        The name is None if the partition's primary does not answer now or, in a cluster, refuses
        INFO. If Redis is not a cluster and refuses INFO, all names are empty. With empty names, a
        caller notices a new primary only if its streams lack entries that were read before. Raises
        StoreUnavailable if no primary answers, or if Redis is not a cluster and the server is a
        replica.
        """
        with driver_errors_translated():
            if isinstance(self._client, Cluster):
                return await self._primaries_of_cluster(self._client)
            sections = [("INFO", "replication"), ("INFO", "server")]
            lineage = _lineage(*await self._reads.send(sections))
        if lineage is None:
            await self._path.hang_up()
            raise StoreUnavailable
        return (lineage,) * PARTITIONS

    async def _primaries_of_cluster(self, client: Cluster) -> tuple[str | None, ...]:
        roles, servers = [
            await client.ask_each_primary("INFO", section) for section in ("replication", "server")
        ]
        lineages = {
            node: _lineage(roles[node], servers[node]) for node in roles.keys() & servers.keys()
        }
        names = {
            node: f"{node} {lineage}" for node, lineage in lineages.items() if lineage is not None
        }
        return tuple(
            names.get(client.primary_of(self._keys.stream(number))) for number in range(PARTITIONS)
        )

    async def end(self, as_of: datetime) -> LogPosition:
        """Returns the position after all events that are in the log now. `as_of` is the present
        time. For a partition that can't be read, the position has no entry, but the moment 5
        seconds before `as_of`. The 5 seconds allow for clocks that differ. Raises StoreUnavailable
        if no partition can be read.
        """
        return await self._behind("+", as_of, behind_moment(to_ms(as_of - _CLOCKS_DIFFER)))

    async def at(self, moment: datetime, as_of: datetime) -> LogPosition:
        """Returns the position after all events in the log that happened before `moment`. `as_of`
        becomes the `as_of` of the position. For a partition that can't be read, the position has no
        entry, but `moment` itself. Raises StoreUnavailable if no partition can be read.
        """
        ms = max(to_ms(moment), 1)
        return await self._behind(f"({ms}-0", as_of, behind_moment(ms - 1))

    async def _behind(self, latest: str, as_of: datetime, unknown: EntryId) -> LogPosition:
        keys = [self._keys.stream(number) for number in range(PARTITIONS)]
        commands = [("XREVRANGE", key, latest, "-", "COUNT", "1") for key in keys]
        with driver_errors_translated():
            replies = await self._reads.send(commands)
        failures = [unavailable(reply) for reply in replies if isinstance(reply, Exception)]
        if len(failures) == len(replies):
            raise failures[0]
        entries = (unknown if isinstance(reply, Exception) else _last(reply) for reply in replies)
        return LogPosition(tuple(entries), as_of, self.memory)

    async def read(
        self, after: Mapping[int, EntryId], *, limit: int, now: datetime
    ) -> Mapping[int, Page | HistoryGone | StoreUnavailable]:
        """Reads up to `limit` events of each partition in `after`. For each partition, `after` has
        the last entry that was read before. With START, the partition is read from its beginning.

        The result of a partition is HistoryGone if events after the last entry that was read are
        missing, and StoreUnavailable if the partition can't be read. `now` is the present time.
        """
        commands = [
            (
                "XRANGE",
                self._keys.stream(number),
                "-" if entry == START else entry_text(entry),
                "+",
                "COUNT",
                str(limit if entry == START else limit + 1),
            )
            for number, entry in after.items()
        ]
        replies = await self._reads.send(commands)
        pages: dict[int, Page | HistoryGone | StoreUnavailable] = {}
        for (number, entry), reply in zip(after.items(), replies, strict=True):
            if isinstance(reply, Exception):
                if isinstance(reply, ResponseError):
                    await self._path.hang_up()
                pages[number] = unavailable(reply)
            else:
                pages[number] = await self._page(number, entry, _entries(reply), limit, now)
        return pages

    async def _page(
        self,
        number: int,
        after: EntryId,
        entries: Sequence[tuple[EntryId, bytes]],
        limit: int,
        now: datetime,
    ) -> Page | HistoryGone | StoreUnavailable:
        if after != START and entries and entries[0][0] == after:
            entries = entries[1:]
        else:
            try:
                if not await self._is_whole(number, after, len(entries), limit, now):
                    return HistoryGone()
            except StoreUnavailable as error:
                return error
        shown = entries[:limit]
        events = []
        for entry, raw in shown:
            try:
                event = codec.decode_event(raw).kept(self._addresses)
                events.append((entry, RecordedEvent(event_id(number, entry), event)))
            except codec.UnreadableRecord:
                _log.error("event_unreadable", partition=number, entry=entry_text(entry))
        return Page(tuple(events), shown[-1][0] if shown else after, len(shown) == limit)

    async def _is_whole(
        self, number: int, after: EntryId, found: int, limit: int, now: datetime
    ) -> bool:
        """Returns True if a stream still has all entries after `after` that a reader needs. `after`
        is an entry that no longer exists, a moment, or START. `found` is the number of entries
        after `after` that a read with this `limit` returned.

        The result is False in three cases:
        1. `after` is an entry that was too young to be trimmed for its age. So the entry was lost
           for another reason, and later entries may be lost, too.
        2. `after` is an entry, but the stream's last entry has a lower ID. A stream keeps the ID of
           its last entry even if the stream is empty. So Redis has another stream now.
        3. The stream has its maximum length. So entries that a reader needs may have been trimmed.

        Entries that were trimmed for their age do not matter, because no reader needs them.
        """
        if after != START and not is_moment(after):
            if from_ms(after[0]) > now - self.memory + trim_margin(self.memory):
                return False
            if not found:
                return await self._end_of(number) >= after
        if found < limit:
            return True
        [length] = await self._reads.ask([("XLEN", self._keys.stream(number))])
        return int(length) < MAX_EVENTS_PER_PARTITION

    async def _end_of(self, number: int) -> EntryId:
        """Returns the ID of the last entry that a partition's stream ever had, or START if the
        stream does not exist.
        """
        [reply] = await self._reads.send([("XINFO", "STREAM", self._keys.stream(number))])
        if isinstance(reply, ResponseError) and "no such key" in str(reply):
            return START
        if isinstance(reply, Exception):
            raise unavailable(reply)
        return entry_id(fields_of(reply)[b"last-generated-id"])

    @asynccontextmanager
    async def listening(self, hear: Callable[[int | None], None]) -> AsyncIterator[None]:
        """Calls `hear` with each value that `wakes` yields, until the `with` block ends."""

        async def listen() -> None:
            async for number in self.wakes():
                hear(number)

        task = asyncio.ensure_future(listen())
        try:
            yield
        finally:
            # The task is cancelled again until it ends, because redis-py may lose a cancellation
            # (see `driver/shielding.py`).
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=0.1)

    async def wakes(self) -> AsyncGenerator[int | None]:
        """Yields the number of each partition that gets new events. Yields None after each new
        subscription to the channel, because earlier announcements may have been missed. Never ends.
        """
        async with aclosing(messages_on(self._client, self._keys.wake_channel)) as messages:
            async for message in messages:
                if message is None:
                    yield None
                elif message.isdigit() and int(message) < PARTITIONS:
                    yield int(message)


def _lineage(replication: Any, server: Any) -> str | None:
    """Returns a name for one run of a primary, from its start to its end. The arguments are the
    server's replies to INFO for the sections `replication` and `server`. The name is empty if the
    server refuses INFO. Returns None if the server is a replica. If a reply is an error that is not
    a refusal, raises this error.

    The name contains the server's run ID, and the replication ID that the primary had before it was
    promoted (`master_replid2`). The name does not contain the primary's present replication ID. The
    present replication ID also changes when the first replica joins, although no events are lost.
    """
    sections = []
    for info in (replication, server):
        if isinstance(info, ResponseError):
            return ""
        if isinstance(info, Exception):
            raise info
        sections.append(info_fields(info))
    if sections[0].get("role") == "slave":
        return None
    return f"{sections[1].get('run_id')} {sections[0].get('master_replid2')}"


def _entries(reply: Sequence[Any]) -> list[tuple[EntryId, bytes]]:
    """Returns the ID and the encoded event of each entry in a reply to XRANGE."""
    return [(entry_id(raw_id), fields_of(fields).get(EVENT_FIELD, b"")) for raw_id, fields in reply]


def _last(reply: Sequence[Any]) -> EntryId:
    return entry_id(reply[0][0]) if reply else START
