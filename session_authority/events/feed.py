"""Sends events to any number of watchers.

One reader takes events from the log, and puts them into a buffer of recent batches. All watchers
read from this buffer, each watcher at its own pace. A watcher that begins in the past first gets
older events from the log, and then also reads from the buffer. If a watcher is so slow that the
buffer has dropped the watcher's next batch, the watch is ended. So a slow watcher uses no more
memory than a fast one. Each event that the reader reads is encoded once. Watchers without a filter
that read the same batches usually share one encoded message.

A watch with a filter for users depends on the partitions of these users, and on the partition with
the events that concern all users. Errors in partitions on which a watch does not depend neither
prevent nor end the watch.

The reader runs only while there is a watcher.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NoReturn

import structlog

from session_authority.domain.errors import CursorExpired, FieldViolation, InvalidRequest
from session_authority.domain.events import NOBODY, EventFilter
from session_authority.events.cursors import cursor_of, parse_cursor
from session_authority.events.history import History
from session_authority.events.messages import WatchMessages
from session_authority.events.reader import EVERY_PARTITION, Reader, advance, settle
from session_authority.events.recent import FoundEvent, Wanted, portions
from session_authority.runtime.clock import uptime
from session_authority.runtime.metrics import Metrics
from session_authority.store import EventLog
from session_authority.store.key_names import PARTITIONS, partition
from session_authority.store.log_position import LogPosition

POLL_INTERVAL = timedelta(seconds=1)
HEARTBEAT_INTERVAL = timedelta(seconds=10)
Send = Callable[[bytes], Awaitable[None]]

_log = structlog.get_logger(__name__)


class _Watcher:
    """Tracks which batch of the buffer a watcher needs next, and can end the watch.

    `next` is the number of the batch that the watcher reads next, or 0 if the watcher does not read
    from the buffer yet. `joins` is the number of the first batch that the watcher will read from
    the buffer after it has got older events from the log. `joins` is 0 if this number is not known.
    """

    def __init__(self, only: EventFilter) -> None:
        self.wanted = Wanted(only, _partitions_of(only))
        self.next = 0
        self.joins = 0
        self.begun = False
        self.timeout = asyncio.timeout(None)
        self.expired = False

    @property
    def needs(self) -> float:
        """Returns the number of the first batch that the watcher needs, or infinity if this number
        is not known yet.
        """
        return self.next or self.joins or math.inf

    def expire(self) -> None:
        """Ends the watch with CursorExpired, even while the watch waits for a slow connection."""
        self.expired = True
        self.timeout.reschedule(asyncio.get_running_loop().time())


class Feed:
    """Delivers the events of all partitions to all watchers."""

    def __init__(
        self,
        log: EventLog,
        clock: Callable[[], datetime],
        metrics: Metrics,
        *,
        poll_interval: timedelta = POLL_INTERVAL,
        heartbeat_interval: timedelta = HEARTBEAT_INTERVAL,
        messages: WatchMessages | None = None,
        uptime: Callable[[], timedelta] = uptime,
    ) -> None:
        self._log = log
        self._history = History(log, clock)
        self._messages = messages or WatchMessages()
        self._clock = clock
        self._uptime = uptime
        self._metrics = metrics
        self._poll_interval = poll_interval
        self._heartbeat_interval = heartbeat_interval
        self._watchers: set[_Watcher] = set()
        self._reading: asyncio.Task[NoReturn] | None = None
        self._news: asyncio.Future[bool] | None = None
        self._reader = self._new_reader()

    def _new_reader(self) -> Reader:
        """Creates a reader that starts after all events that are already in the log."""
        return Reader(
            self._log,
            self._messages,
            self._clock,
            self._uptime,
            poll_interval=self._poll_interval,
            heartbeat_interval=self._heartbeat_interval,
            lost=self._lost,
            told=self._told,
        )

    async def primaries(self) -> tuple[str | None, ...]:
        """Returns the names of the partitions' primaries. See `EventLog.primaries`."""
        return await self._log.primaries()

    async def watch(self, since: str | datetime | None, only: EventFilter, send: Send) -> NoReturn:
        """Sends events to a watcher, until the call is cancelled.

        Args:
            since: The cursor after which events are sent, or the moment from which events are sent.
                None means that only new events are sent.
            only: The filter for the events that the watcher wants.
            send: Sends an encoded message to the watcher.

        Raises InvalidRequest if `since` is a text that is not a cursor. Raises CursorExpired if the
        watcher may miss events, at the start or later. Raises StoreUnavailable if the log can't be
        read before the watcher reads from the buffer. Also raises the errors of `send`.
        """
        position = _position_of(since) if isinstance(since, str) else since
        watcher = _Watcher(only)
        try:
            async with watcher.timeout, self._attended_by(watcher):
                await self._watch(watcher, position, send)
        except TimeoutError:
            if not watcher.expired:
                raise
            raise CursorExpired from None

    async def _watch(
        self, watcher: _Watcher, since: LogPosition | datetime | None, send: Send
    ) -> NoReturn:
        reader, wanted = self._reader, watcher.wanted
        # In each partition that could be read, the reader has now read all events that were written
        # before this call.
        look = await reader.fresh_look()
        watcher.begun = True
        if since is not None:
            watcher.next = await self._catch_up(watcher, since, send)
        else:
            watcher.next = reader.recent.end
            whole = not look.unproven & wanted.partitions
            proof = self._messages.read_time(look.moment, look.uptime) if whole else b""
            await send(self._messages.cursor(cursor_of(reader.position())) + proof)
        while True:
            while watcher.next == reader.recent.end:
                await self._await_news()
            # No `await` may come between this check and `message_from`. During an `await`, the
            # buffer may drop the batch that this watcher reads next.
            if watcher.expired:
                raise CursorExpired
            start = watcher.next
            message, watcher.next = reader.recent.message_from(start, wanted)
            if message:
                oldest_ms = reader.recent.oldest_ms(start, watcher.next)
                await send(message)
                self._note_lag(oldest_ms)

    def _note_lag(self, oldest_ms: int | None) -> None:
        if oldest_ms is not None:
            lag = self._clock().timestamp() - oldest_ms / 1000
            self._metrics.watch_lag.add(max(lag, 0.0))  # the clock of Redis may be ahead of ours

    async def _catch_up(self, watcher: _Watcher, since: LogPosition | datetime, send: Send) -> int:
        """Sends those events after `since` that the reader has already read. Returns the number of
        the first batch that the watcher reads from the buffer.
        """
        reader, wanted = self._reader, watcher.wanted
        start = reader.meet(await self._history.start_of(since))
        if isinstance(since, LogPosition):
            # This check comes before any message is sent, because a watch with an expired cursor
            # must fail at once.
            await self._history.check(start, reader.position(), wanted.partitions)
        entries = list(start.entries)
        await self._send(send, [], start)
        while True:
            tip, watcher.joins = reader.position(), reader.recent.end
            behind = {n: entries[n] for n in wanted.partitions if entries[n] != tip.entries[n]}
            ends = [entries[n] if n in behind else tip.entries[n] for n in range(PARTITIONS)]
            while behind:
                found: list[FoundEvent] = []
                for number, page in (await self._history.read_on(behind)).items():
                    found += (
                        reader.found(number, entry, recorded)
                        for entry, recorded in page.events
                        if entry <= tip.entries[number] and wanted.only.passes(recorded.event)
                    )
                    behind[number] = min(page.last, tip.entries[number])
                    ends[number] = behind[number]
                    if page.last >= tip.entries[number] or not page.more:
                        del behind[number]
                found.sort(key=lambda event: event.entry)
                *others, last = portions(found)
                for portion in others:
                    advance(entries, portion)
                    await self._send(send, portion, replace(start, entries=tuple(entries)))
                entries = list(ends)
                position = replace(start if behind else tip, entries=tuple(entries))
                await self._send(send, last, position)
            if watcher.joins >= reader.recent.first:
                return watcher.joins

    async def _send(self, send: Send, events: list[FoundEvent], position: LogPosition) -> None:
        parts = [event.written.message for event in events]
        await send(b"".join((*parts, self._messages.cursor(cursor_of(position)))))

    @asynccontextmanager
    async def _attended_by(self, watcher: _Watcher) -> AsyncIterator[None]:
        """Counts the watcher until the `with` block ends. The reader runs while at least one
        watcher is counted.
        """
        self._watchers.add(watcher)
        self._metrics.watchers.set(len(self._watchers))
        if self._reading is None:
            self._reader = self._new_reader()
            # The reader works for all watchers. The empty context keeps the name of the first
            # watcher's caller out of the reader's log messages.
            self._reading = asyncio.get_running_loop().create_task(
                self._reader.run(), context=Context()
            )
        try:
            yield
        finally:
            self._watchers.discard(watcher)
            self._metrics.watchers.set(len(self._watchers))
            if not self._watchers and self._reading is not None:
                reading, self._reading = self._reading, None
                reading.cancel()
                await asyncio.wait([reading])

    async def _await_news(self) -> None:
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)

    def _told(self) -> None:
        """Handles a new batch in the buffer: ends the watches whose next batch was dropped, drops
        the batches that no watcher needs, and wakes all watchers.
        """
        recent = self._reader.recent
        for watcher in self._watchers:
            if 0 < watcher.next < recent.first:
                self._expire(watcher)
        needed = min((watcher.needs for watcher in self._watchers), default=math.inf)
        recent.forget_before(int(min(needed, recent.end - 1)))
        settle(self._news, True)

    def _lost(self, partitions: frozenset[int], reason: str) -> None:
        """Ends all watches that have begun and depend on one of these partitions."""
        gone = [
            watcher
            for watcher in self._watchers
            if watcher.begun and watcher.wanted.partitions & partitions
        ]
        _log.warning("watches_expired", reason=reason, watchers=len(gone))
        for watcher in gone:
            self._expire(watcher)

    def _expire(self, watcher: _Watcher) -> None:
        if not watcher.expired:
            self._metrics.watches_expired.inc()
            watcher.expire()


def _partitions_of(only: EventFilter) -> frozenset[int]:
    """Returns the partitions that can have events for this filter."""
    if not only.user_ids:
        return EVERY_PARTITION
    return frozenset(partition(user_id) for user_id in (*only.user_ids, NOBODY))


def _position_of(cursor: str) -> LogPosition:
    position = parse_cursor(cursor, PARTITIONS)
    if position is None:
        raise InvalidRequest(
            [FieldViolation("cursor", "must be the cursor of a message of an earlier watch")]
        )
    return position
