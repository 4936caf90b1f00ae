"""The log of events. It has 64 streams that are read in order, and a channel that announces which
streams have new events.

A position in a stream is the last entry that a reader has read. To read on, the reader starts with
that entry itself. If the entry is still there, no later entry is missing, even after a failover or
a change of clocks. The reason is that the IDs of one stream only grow. If the entry is gone, the
log was trimmed, or it is another log.
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
# One connection for reads, and one for wake-ups.
EVENT_LOG_CONNECTIONS = 2
# The margin is the time that events are kept, divided by this number, but at most an hour.
_MARGIN_PARTS = 12
# How far the clock of this process may differ from the clock of a primary.
_CLOCKS_DIFFER = timedelta(seconds=5)
EVENT_FIELD = b"event"

_log = structlog.get_logger(__name__)


def trim_margin(memory: timedelta) -> timedelta:
    """Returns how long before its removal an entry already counts as trimmed. The margin is needed
    because clocks differ and reading takes time. `memory` is how long the log keeps an event.
    """
    return min(timedelta(hours=1), memory / _MARGIN_PARTS)


class HistoryGone(Exception):
    """The events after a position are no longer in the log, because the log was trimmed or is
    another log.
    """


@dataclass(frozen=True, slots=True)
class Page:
    """The entries after an entry of a stream. `last` is the last entry of the page, or the entry
    before the page if the page is empty. `more` is True if the stream may have further entries. An
    event that can't be decoded is left out.
    """

    events: tuple[tuple[EntryId, RecordedEvent], ...]
    last: EntryId
    more: bool


class EventLog:
    """Reads the log. Its methods raise StoreUnavailable if Redis is unreachable, slow or refusing.
    But `read` returns this error for each partition, and `wakes` raises nothing.

    `memory` is how long the log keeps an event. `addresses` says how exactly addresses are
    returned, even if events were written with more exact addresses.
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
        """Returns a name for the primary of each partition. If the name changes, another primary
        serves the partition, or the primary was restarted.

        The name is None if the primary of a partition can't be asked now. Outside of a cluster, all
        names are empty if Redis refuses INFO. Then a new primary shows only by its different
        history. Raises StoreUnavailable if no primary answers.
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
        time. For a partition that can't be read, the position has the moment 5 seconds before
        `as_of`, because clocks may differ. Raises StoreUnavailable if no partition can be read.
        """
        return await self._behind("+", as_of, behind_moment(to_ms(as_of - _CLOCKS_DIFFER)))

    async def at(self, moment: datetime, as_of: datetime) -> LogPosition:
        """Returns the position after all events that happened before a moment and are still in the
        log. `as_of` becomes the time of the position. For a partition that can't be read, the
        position has the moment itself. Raises StoreUnavailable if no partition can be read.
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
        """Reads up to `limit` events of each partition. `after` has the last entry that was read of
        each partition. START reads a partition from its beginning.

        The result of a partition is HistoryGone if events after the entry are missing, and
        StoreUnavailable if the partition can't be read. `now` is the present time.
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
        """Returns True if no entry that a reader needs is missing behind the position `after`. The
        position is an entry that is gone, a moment, or START.

        An entry that was too young to be trimmed for its age gives False. Such an entry was lost in
        another way, so later entries may be lost, too. Older entries may have been trimmed, but no
        reader needs them. A stream remembers its last entry even when it is empty. So if a stream
        ends before `after`, it is another stream. Younger entries may have been removed because the
        stream was too long. Then the stream still has at least its maximum length.
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
        """Returns the last entry that a stream ever had, or START if there is no stream."""
        [reply] = await self._reads.send([("XINFO", "STREAM", self._keys.stream(number))])
        if isinstance(reply, ResponseError) and "no such key" in str(reply):
            return START
        if isinstance(reply, Exception):
            raise unavailable(reply)
        return entry_id(fields_of(reply)[b"last-generated-id"])

    @asynccontextmanager
    async def listening(self, hear: Callable[[int | None], None]) -> AsyncIterator[None]:
        """Calls `hear` with each value that `wakes` yields, as long as the context lasts."""

        async def listen() -> None:
            async for number in self.wakes():
                hear(number)

        task = asyncio.ensure_future(listen())
        try:
            yield
        finally:
            # The task is cancelled until it ends: the driver may lose a cancellation, see
            # `shielding`.
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=0.1)

    async def wakes(self) -> AsyncGenerator[int | None]:
        """Yields the number of each partition that gets new events, and None whenever wake-ups may
        have been missed. Never ends.
        """
        async with aclosing(messages_on(self._client, self._keys.wake_channel)) as messages:
            async for message in messages:
                if message is None:
                    yield None
                elif message.isdigit() and int(message) < PARTITIONS:
                    yield int(message)


def _lineage(replication: Any, server: Any) -> str | None:
    """Returns a name for a primary's run, made from two sections of its INFO. The name is empty if
    the server refuses INFO. Returns None if the server is no primary.

    The name contains the ID of the run. It also contains the ID of the replication that the primary
    continued when it was promoted. The primary's own replication ID is left out: it also changes
    when a first replica joins, which loses nothing. If a section is any other error, raises it.
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
    """Returns the entries in a reply to XRANGE. Each has its ID and its encoded event."""
    return [(entry_id(raw_id), fields_of(fields).get(EVENT_FIELD, b"")) for raw_id, fields in reply]


def _last(reply: Sequence[Any]) -> EntryId:
    return entry_id(reply[0][0]) if reply else START
