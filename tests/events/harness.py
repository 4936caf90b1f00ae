"""A feed on a store of its own, the events in it, and watchers that record the messages that they
get.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

from session_authority.domain.events import EventFilter, EventType, RecordedEvent
from session_authority.events.cursors import parse_cursor
from session_authority.events.feed import Feed
from session_authority.events.messages import WatchMessages
from session_authority.runtime.metrics import Metrics
from session_authority.store import EventLog, KeyNames, RedisClient, SessionStore
from session_authority.store.key_names import PARTITIONS
from session_authority.store.log_position import LogPosition
from session_authority.store.records import Commit
from session_authority.v1 import session_authority_pb2 as pb
from tests.store.samples import event
from tests.support.clock import Clock
from tests.support.waiting import eventually

MILLISECOND, HOUR = timedelta(milliseconds=1), timedelta(hours=1)
QUICK, NEVER = timedelta(milliseconds=20), timedelta(hours=1)
ALL = EventFilter()
CURSOR, READ_TIME = 2, 3  # Fields of WatchEventsResponse.
USERS = ["ada", "bob", "cleo", "dan", "eve", "fay", "gus"]


class CountedMessages(WatchMessages):
    """The real messages, counted as they are written."""

    def __init__(self) -> None:
        self.events = self.cursors = 0

    def event(self, recorded: RecordedEvent) -> bytes:
        self.events += 1
        return super().event(recorded)

    def cursor(self, cursor: str) -> bytes:
        self.cursors += 1
        return super().cursor(cursor)


@dataclass(frozen=True)
class Message:
    """A message to a watcher: its events, each as a user and a type, the cursor after them, and the
    time until which everything was sent, if the message proves it.
    """

    raw: bytes
    ids: tuple[str, ...]
    events: tuple[tuple[str, str], ...]
    cursor: str
    read_time: datetime | None = None
    read_uptime: timedelta | None = None


def read_message(raw: bytes) -> Message:
    message = pb.WatchEventsResponse.FromString(raw)
    parts: Any = UnknownFieldSet(Empty.FromString(raw))  # The type stubs lack the type of an item.
    fields = [part.field_number for part in parts if part.field_number != READ_TIME]
    assert fields == sorted(fields), "a message ends with a cursor"
    assert fields.count(CURSOR) == 1, "a message has one cursor only"
    return Message(
        raw,
        tuple(e.event_id for e in message.events),
        tuple((e.user_id, e.reason) for e in message.events),
        message.cursor,
        message.read_time.ToDatetime(UTC) if message.HasField("read_time") else None,
        message.read_uptime.ToTimedelta() if message.HasField("read_uptime") else None,
    )


class Watcher:
    """Watches until it is stopped. A held watcher accepts only as many messages as the test
    allows.
    """

    def __init__(
        self, feed: Feed, since: str | datetime | None = None, only: EventFilter = ALL
    ) -> None:
        self.messages: list[Message] = []
        self.waiting = False
        self._held = False
        self._let = asyncio.Semaphore(0)
        self._task = asyncio.ensure_future(feed.watch(since, only, self._take))

    async def _take(self, raw: bytes) -> None:
        if self._held:
            self.waiting = True
            await self._let.acquire()
            self.waiting = False
        self.messages.append(read_message(raw))

    def hold(self) -> Watcher:
        """From now on the watcher accepts no message, as if its connection was stuck."""
        self._held = True
        return self

    def free(self) -> None:
        """From now on the watcher accepts every message."""
        self._held = False
        self._let.release()

    async def take_one(self) -> None:
        """Accepts the message that waits."""
        taken = len(self.messages)
        await self.has(lambda: self.waiting, "a message")
        self._let.release()
        await self.has(lambda: len(self.messages) > taken, "the message to be taken")

    @property
    def events(self) -> list[tuple[str, str]]:
        return [happened for message in self.messages for happened in message.events]

    @property
    def heartbeats(self) -> int:
        return sum(not message.events for message in self.messages[1:])

    @property
    def cursor(self) -> str:
        return self.messages[-1].cursor

    @property
    def is_watching(self) -> bool:
        return not self._task.done()

    async def has(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for a condition as long as the watch goes on."""
        await eventually(lambda: condition() or not self.is_watching, what)
        if not condition():
            raise AssertionError(f"the watch ended before {what}: {self._task}")

    async def started(self) -> Watcher:
        await self.has(lambda: bool(self.messages), "the first message")
        assert self.messages[0].events == ()
        return self

    async def told(self, *expected: tuple[str, str]) -> None:
        """Waits until the watcher has as many events as expected. Each user's events must be the
        expected ones, in order.
        """
        await self.has(lambda: len(self.events) >= len(expected), f"{len(expected)} events")
        assert by_user(self.events) == by_user(expected)

    async def ended(self) -> BaseException:
        """Why the watch ended."""
        async with asyncio.timeout(20):
            await asyncio.wait([self._task])
        error = self._task.exception()
        assert error is not None
        return error

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def place_of(cursor: str) -> LogPosition:
    place = parse_cursor(cursor, PARTITIONS)
    assert place is not None
    return place


def by_user(events: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The events of each user, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for user, happened in events:
        found[user].append(happened)
    return dict(found)


class Listening(EventLog):
    """The real log. It counts the reads, and runs a callback before it answers."""

    def __init__(self, client: RedisClient, keys: KeyNames) -> None:
        super().__init__(client, keys)
        self.asked: Counter[str] = Counter()
        self.failed = 0
        self.partitions: list[set[int]] = []
        self.on_read: Callable[[Any], None] = lambda _: None

    async def primaries(self) -> tuple[str | None, ...]:
        self.asked["primaries"] += 1
        try:
            return await super().primaries()
        except Exception:
            self.failed += 1
            raise

    async def read(self, after: Any, *, limit: int, now: datetime) -> Any:
        self.partitions.append(set(after))
        pages = await super().read(after, limit=limit, now=now)
        self.on_read(pages)
        return pages


class Scene:
    """A feed, the store below it, and its watchers."""

    def __init__(
        self,
        client: RedisClient,
        prefix: str,
        *,
        poll: timedelta = QUICK,
        heartbeat: timedelta = NEVER,
    ) -> None:
        self.client, self.keys = client, KeyNames(prefix)
        self.store, self.log = SessionStore(client, self.keys), Listening(client, self.keys)
        self.written, self.clock, self.metrics = CountedMessages(), Clock(), Metrics()
        self.uptime = timedelta(days=3)
        self.feed = self.another_feed(poll=poll, heartbeat=heartbeat)
        self._watchers: list[Watcher] = []
        self._written: Counter[str] = Counter()

    def another_feed(self, *, poll: timedelta = QUICK, heartbeat: timedelta = NEVER) -> Feed:
        return Feed(
            self.log,
            self.clock,
            self.metrics,
            poll_interval=poll,
            heartbeat_interval=heartbeat,
            uptime=lambda: self.uptime,
            messages=self.written,
        )

    def watch(
        self, since: str | datetime | None = None, only: EventFilter = ALL, feed: Feed | None = None
    ) -> Watcher:
        watcher = Watcher(feed or self.feed, since, only)
        self._watchers.append(watcher)
        return watcher

    async def happen(
        self, *users: str, kind: EventType = EventType.DEVICE_SIGNED_IN
    ) -> list[tuple[str, str]]:
        """Writes one event for each of the users in turn."""
        return [await self._happen(user, kind) for user in users]

    async def _happen(self, user: str, kind: EventType) -> tuple[str, str]:
        self._written[user] += 1
        reason = str(self._written[user])
        await self.store.commit(
            Commit(user, self.clock(), events=(event(user, kind=kind, reason=reason),))
        )
        return user, reason

    async def run(self, *command: str | bytes | int) -> Any:
        return await self.client.execute_command(*command)

    def expired(self) -> int:
        """How many watches were ended, according to the metrics."""
        value = self.metrics.registry.get_sample_value("session_authority_watches_expired_total")
        assert value is not None
        return int(value)

    def watching(self) -> int:
        """How many watches there are, according to the metrics."""
        value = self.metrics.registry.get_sample_value("session_authority_watchers")
        assert value is not None
        return int(value)

    async def close(self) -> None:
        for watcher in self._watchers:
            await watcher.stop()
        assert self.watching() == 0
        await self.store.close()
