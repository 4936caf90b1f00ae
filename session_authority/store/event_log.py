"""The log of events: 64 streams, read in order, and a channel that says which of them has news.

A place in a stream is an entry that was read. Reading on starts with that entry itself: if it is
still there, then what follows it is all that followed, whatever became of the primaries and their
clocks in between, as the IDs of one stream only ever grow. If it is not, the log was trimmed, or is
another one than it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import choice
from typing import Any

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError, ResponseError

from session_authority.domain.cursors import START, EntryId, Place
from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.events import RecordedEvent
from session_authority.store import codec
from session_authority.store.cluster import Cluster
from session_authority.store.complaints import unavailable
from session_authority.store.connection import Client
from session_authority.store.keys import PARTITIONS, TAGS, Keys
from session_authority.store.lines import lines_to
from session_authority.store.unbroken import Unbroken

EVENT_MEMORY = timedelta(days=7)
MAX_EVENTS_PER_PARTITION = 100_000
# One to read with and one to be woken by.
EVENT_LOG_CONNECTIONS = 2
# How much earlier than it may be trimmed an entry counts as such: clocks differ, and who reads
# takes time.
_TRIM_MARGIN = timedelta(hours=1)
_QUIET_SECONDS = 5.0
_RETRY_SECONDS = 0.5
EVENT_FIELD = b"event"

_log = structlog.get_logger(__name__)


class HistoryGone(Exception):
    """What followed a place in the log can't be told any more: it was trimmed, or the log is
    another one.
    """


@dataclass(frozen=True, slots=True)
class Page:
    """What follows an entry of a stream. `last` is the last entry read, `more` says that there are
    others.
    """

    events: tuple[tuple[EntryId, RecordedEvent], ...]
    last: EntryId
    more: bool


class EventLog:
    """Reads the log. Raises StoreUnavailable if Redis is away, slow or refusing."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._lines = lines_to(client)
        self._turn = asyncio.Lock()
        self._unbroken = Unbroken()

    async def primaries(self) -> tuple[str | None, ...]:
        """Names who serves each partition: a name that differs from the one before is of another
        primary, or a restarted one.

        None if one can't be asked now. Where INFO is refused all names are empty, and only a
        history that differs tells of a change.
        """
        try:
            if isinstance(self._client, Cluster):
                return await self._primaries_of_cluster(self._client)
            lineage = _lineage(*await self._send([("INFO", "replication"), ("INFO", "server")]))
        except (RedisError, OSError, TimeoutError) as error:
            raise unavailable(error) from None
        if lineage is None:
            await self._lines.hang_up()
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

    async def end(self, as_of: datetime) -> Place:
        """Behind all that is there."""
        return await self._behind("+", as_of)

    async def at(self, moment: datetime, as_of: datetime) -> Place:
        """Behind all that happened before a moment, as far as it is remembered."""
        return await self._behind(f"({max(codec.to_ms(moment), 1)}-0", as_of)

    async def _behind(self, latest: str, as_of: datetime) -> Place:
        keys = [self._keys.stream(number) for number in range(PARTITIONS)]
        replies = await self._ask([("XREVRANGE", key, latest, "-", "COUNT", "1") for key in keys])
        return Place(tuple(_last(reply) for reply in replies), as_of)

    async def read(
        self, after: Mapping[int, EntryId], *, limit: int, now: datetime
    ) -> Mapping[int, Page | HistoryGone | StoreUnavailable]:
        """Up to `limit` events of each partition, after an entry of it (START: from its
        beginning).
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
        try:
            replies = await self._send(commands)
        except (RedisError, OSError, TimeoutError) as error:
            replies = [error] * len(commands)
        pages: dict[int, Page | HistoryGone | StoreUnavailable] = {}
        for (number, entry), reply in zip(after.items(), replies, strict=True):
            if isinstance(reply, Exception):
                if isinstance(reply, ResponseError):
                    await self._lines.hang_up()
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
                events.append(
                    (entry, RecordedEvent(event_id(number, entry), codec.decode_event(raw)))
                )
            except codec.UnreadableRecord:
                _log.error("event_unreadable", partition=number, entry=entry_text(entry))
        return Page(tuple(events), shown[-1][0] if shown else after, len(shown) == limit)

    async def _is_whole(
        self, number: int, after: EntryId, found: int, limit: int, now: datetime
    ) -> bool:
        """Whether nothing is missing after an entry that is not there, or before the first of a
        stream.

        What is old may have been trimmed, and nobody misses it: but only when something newer was
        added, so a stream that ends before the entry is another one. And what went because the
        stream was too long may have been young; then the stream is still that long.
        """
        if after != START and (
            not found or codec.from_ms(after[0]) > now - EVENT_MEMORY + _TRIM_MARGIN
        ):
            return False
        if found < limit:
            return True
        [length] = await self._ask([("XLEN", self._keys.stream(number))])
        return int(length) < MAX_EVENTS_PER_PARTITION

    @asynccontextmanager
    async def listening(self, hear: Callable[[int | None], None]) -> AsyncIterator[None]:
        """Tells inside what `wakes` does."""

        async def listen() -> None:
            async for number in self.wakes():
                hear(number)

        task = asyncio.ensure_future(listen())
        try:
            yield
        finally:
            while not task.done():  # again, as the driver may lose a cancellation; see `unbroken`
                task.cancel()
                await asyncio.wait([task], timeout=0.1)

    async def wakes(self) -> AsyncGenerator[int | None]:
        """The partitions that have news, as they get it; None whenever word of some may have been
        missed. Never ends.
        """
        while True:
            try:
                pubsub = await self._subscribe()
                try:
                    async with aclosing(_heard(pubsub)) as heard:
                        async for number in heard:
                            yield number
                finally:
                    await pubsub.aclose()
            except Exception as error:  # noqa: BLE001 - not all that the driver raises for a cluster is a RedisError
                unavailable(error)  # it is told of in the log; who waits polls meanwhile
            await asyncio.sleep(_RETRY_SECONDS)

    async def _subscribe(self) -> PubSub:
        if isinstance(self._client, Cluster):
            await self._client.initialize()
            # Every node passes on what is published on any. A random one: the one of before may be
            # away.
            pubsub: PubSub = self._client.pubsub(node=choice(self._client.get_primaries()))  # noqa: S311 - no secret
        else:
            pubsub = self._client.pubsub()
        try:
            await pubsub.subscribe(self._keys.wake_channel)
        except BaseException:
            await pubsub.aclose()
            raise
        return pubsub

    async def _send(self, commands: Sequence[tuple[str, ...]]) -> Sequence[Any]:
        """Takes turns, so that one connection is enough, however many read."""
        return await self._unbroken.run(self._exchange(commands))

    async def _exchange(self, commands: Sequence[tuple[str, ...]]) -> Sequence[Any]:
        async with self._turn:
            return await self._lines.send(commands)

    async def _ask(self, commands: Sequence[tuple[str, ...]]) -> Sequence[Any]:
        try:
            replies = await self._send(commands)
        except (RedisError, OSError, TimeoutError) as error:
            raise unavailable(error) from None
        for reply in replies:
            if isinstance(reply, Exception):
                raise unavailable(reply)
        return replies


async def _heard(pubsub: PubSub) -> AsyncGenerator[int | None]:
    """The partitions named on the channel, once it is listened to: None says that it is.

    Raises TimeoutError if the connection says nothing, even if asked.
    """
    asked = False
    while True:
        message = await pubsub.get_message(timeout=_QUIET_SECONDS)
        if message is None:
            if asked:
                raise TimeoutError
            await pubsub.ping()
            asked = True
            continue
        asked = False
        if message["type"] == "subscribe":
            yield None
        if (
            message["type"] == "message"
            and message["data"].isdigit()
            and int(message["data"]) < PARTITIONS
        ):
            yield int(message["data"])


def event_id(number: int, entry: EntryId) -> str:
    """The ID of the event in an entry of a partition: no full stop, as signatures of webhooks join
    parts with those.
    """
    return f"evt_{TAGS[number]}_{entry[0]}_{entry[1]}"


def _lineage(replication: Any, server: Any) -> str | None:
    """Names a primary's run, from two sections of its INFO; "" if it refuses, None if it is no
    primary.

    The run, and whom it succeeded when it was promoted: the ID of its own replication changes when
    a first replica joins, too, which loses nothing. Raises what else was answered.
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


def info_fields(reply: Any) -> Mapping[str, str]:
    """A reply to INFO, whether the driver made a mapping of it or not."""
    if isinstance(reply, Mapping):
        return {name: str(value) for name, value in reply.items()}
    lines = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, _, value in lines}


def _entries(reply: Sequence[Any]) -> list[tuple[EntryId, bytes]]:
    """A reply to XRANGE."""
    return [(entry_id(raw_id), fields_of(fields).get(EVENT_FIELD, b"")) for raw_id, fields in reply]


def fields_of(fields: Any) -> Mapping[Any, Any]:
    """What a reply names and gives values: a mapping if the driver made one of it, else names and
    values in turn.
    """
    return (
        fields if isinstance(fields, Mapping) else dict(zip(fields[::2], fields[1::2], strict=True))
    )


def _last(reply: Sequence[Any]) -> EntryId:
    return entry_id(reply[0][0]) if reply else START


def entry_id(raw: bytes | str) -> EntryId:
    """An entry's ID as Redis writes it."""
    text = raw.decode() if isinstance(raw, bytes) else raw
    ms, _, number = text.partition("-")
    return int(ms), int(number)


def entry_text(entry: EntryId) -> str:
    """An entry's ID as Redis reads it."""
    return f"{entry[0]}-{entry[1]}"
