"""Tells watchers what happens: one reader of the event log for the whole process, however many
watch.

The reader is woken when a partition has news, and looks at all of them once a second in case a
wake-up was lost. What it reads goes into one short memory that all watchers read from, each at its
own pace. A watcher that falls further behind is sent away, so that no watcher costs more
memory than another. Every event is serialised once, and a message that several watchers get is put
together once.

The reader runs only while somebody watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NoReturn

import structlog

from session_authority.domain.errors import (
    CursorExpired,
    FieldViolation,
    InvalidRequest,
    StoreUnavailable,
)
from session_authority.domain.events import EventFilter, RecordedEvent
from session_authority.events.cursors import cursor_of, parse_cursor
from session_authority.events.history import History
from session_authority.events.messages import WatchMessages
from session_authority.events.primaries import Primaries
from session_authority.events.recent import (
    Batch,
    FoundEvent,
    RecentBatches,
    WrittenEvent,
    portions,
)
from session_authority.runtime import logs
from session_authority.runtime.clock import uptime
from session_authority.runtime.metrics import Metrics
from session_authority.store import EventLog
from session_authority.store.event_log import HistoryGone, Page
from session_authority.store.key_names import PARTITIONS
from session_authority.store.log_position import EntryId, LogPosition

POLL_INTERVAL = timedelta(seconds=1)
HEARTBEAT_INTERVAL = timedelta(seconds=10)
Send = Callable[[bytes], Awaitable[None]]

_log = structlog.get_logger(__name__)


class _Watcher:
    """Where somebody is in the memory, and how to send them away. `next` is the batch to be read
    next, 0 for one that has not joined yet; `joins` is where such a one will, if it knows.
    """

    def __init__(self) -> None:
        self.next = 0
        self.joins = 0
        self.begun = False
        self.timeout = asyncio.timeout(None)
        self.expired = False

    @property
    def needs(self) -> float:
        """The first batch that it needs."""
        return self.next or self.joins or math.inf

    def expire(self) -> None:
        """Interrupts it, even while it waits for a slow connection."""
        self.expired = True
        self.timeout.reschedule(asyncio.get_running_loop().time())


class Feed:
    """What happens, for anybody who watches."""

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
        self._poll_seconds = poll_interval.total_seconds()
        self._heartbeat_seconds = heartbeat_interval.total_seconds()
        self._watchers: set[_Watcher] = set()
        self._reader: asyncio.Task[None] | None = None
        self._forget()

    def _forget(self) -> None:
        """Makes the next round start behind all that is there, and knows nothing of what was."""
        self._begun = False
        self._entries: list[EntryId] = []
        self._primaries = Primaries()
        self._as_of, self._read_at = self._clock(), self._uptime()
        self._recent = RecentBatches()
        self._news: asyncio.Future[bool] | None = None
        self._changed: set[int] = set()
        self._bell = asyncio.Event()
        self._round_wanted: asyncio.Future[bool] | None = None
        self._last_heartbeat = 0.0

    async def primaries(self) -> tuple[str | None, ...]:
        """Names who serves each partition; see `EventLog.primaries`."""
        return await self._log.primaries()

    # --- watching ---------------------------------------------------------------------------------

    async def watch(self, since: str | datetime | None, only: EventFilter, send: Send) -> NoReturn:
        """Sends what happens after a cursor or a moment, or from now on, until cancelled.

        Raises InvalidRequest for what is no cursor, CursorExpired if something may be missed,
        StoreUnavailable if the log can't be read at the start.
        """
        position = _position_of(since) if isinstance(since, str) else since
        watcher = _Watcher()
        try:
            async with watcher.timeout, self._attended_by(watcher):
                await self._watch(watcher, position, only, send)
        except TimeoutError:
            if not watcher.expired:
                raise
            raise CursorExpired from None

    async def _watch(
        self, watcher: _Watcher, since: LogPosition | datetime | None, only: EventFilter, send: Send
    ) -> NoReturn:
        # What had happened when this was called is behind it, if all could be read.
        whole = await self._fresh_round()
        watcher.begun = True
        if since is not None:
            watcher.next = await self._catch_up(watcher, since, only, send)
        else:
            watcher.next = self._recent.end
            proof = self._messages.read_time(self._as_of, self._read_at) if whole else b""
            await send(self._messages.cursor(cursor_of(self._position())) + proof)
        while True:
            while watcher.next == self._recent.end:
                await self._await_news()
            # In this very iteration of the loop: what it would read is forgotten.
            if watcher.expired:
                raise CursorExpired
            message, watcher.next = self._recent.message_from(watcher.next, only)
            if message:
                await send(message)

    async def _catch_up(
        self, watcher: _Watcher, since: LogPosition | datetime, only: EventFilter, send: Send
    ) -> int:
        """Sends what the reader has read already; where in the memory it goes on."""
        start = await self._history.start_of(since, self._position())
        entries = list(start.entries)
        await self._send(send, [], start)
        while True:
            tip, joined = self._position(), self._recent.end
            watcher.joins = joined
            behind = {n: e for n, e in enumerate(entries) if e != tip.entries[n]}
            ends = list(entries)
            while behind:
                found: list[FoundEvent] = []
                for number, page in (await self._history.read_on(behind)).items():
                    found += (
                        self._found(number, entry, recorded)
                        for entry, recorded in page.events
                        if entry <= tip.entries[number] and only.passes(recorded.event)
                    )
                    behind[number] = min(page.last, tip.entries[number])
                    ends[number] = behind[number]
                    if page.last >= tip.entries[number] or not page.more:
                        del behind[number]
                found.sort(key=lambda event: event.entry)
                *others, last = portions(found)
                for portion in others:
                    _advance(entries, portion)
                    await self._send(send, portion, replace(start, entries=tuple(entries)))
                entries = list(ends)
                position = replace(start if behind else tip, entries=tuple(entries))
                await self._send(send, last, position)
            if joined >= self._recent.first:
                return joined

    async def _send(self, send: Send, events: list[FoundEvent], position: LogPosition) -> None:
        parts = [event.written.message for event in events]
        await send(b"".join((*parts, self._messages.cursor(cursor_of(position)))))

    # --- reading ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _attended_by(self, watcher: _Watcher) -> AsyncIterator[None]:
        """Keeps the reader running."""
        self._watchers.add(watcher)
        self._metrics.watchers.set(len(self._watchers))
        if self._reader is None:
            self._forget()
            # It reads for all, so what it logs is not of the caller who happens to watch first.
            self._reader = asyncio.get_running_loop().create_task(
                self._keep_reading(), context=Context()
            )
        try:
            yield
        finally:
            self._watchers.discard(watcher)
            self._metrics.watchers.set(len(self._watchers))
            if not self._watchers and self._reader is not None:
                reader, self._reader = self._reader, None
                reader.cancel()
                await asyncio.wait([reader])

    async def _fresh_round(self) -> bool:
        """Waits until every partition was looked at by a round that began after this was called.
        Returns True if all could be read. Raises StoreUnavailable if none could.
        """
        if self._round_wanted is None:
            self._round_wanted = asyncio.get_running_loop().create_future()
            self._bell.set()
        return await asyncio.shield(self._round_wanted)

    async def _await_news(self) -> None:
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)

    async def _keep_reading(self) -> None:
        async with self._log.listening(self._hear):
            loop = asyncio.get_running_loop()
            next_poll = loop.time()
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_poll):
                        await self._bell.wait()
                self._bell.clear()
                wanted, self._round_wanted = self._round_wanted, None
                full = wanted is not None or loop.time() >= next_poll
                outcome: bool | Exception
                try:
                    outcome = await self._round(full)
                except StoreUnavailable as error:
                    outcome = error
                except Exception as error:  # noqa: BLE001
                    # It must go on; the watchers that wait for this round learn of it.
                    _log.error("feed_failed", **logs.fault(error))
                    self._start_over("what was read could not be told")
                    outcome = StoreUnavailable()
                if full:
                    next_poll = loop.time() + self._poll_seconds
                _settle(wanted, outcome)

    def _hear(self, number: int | None) -> None:
        self._changed.update(range(PARTITIONS) if number is None else [number])
        self._bell.set()

    async def _round(self, full: bool) -> bool:
        """Reads all partitions to their ends, or those with news. Returns True if all of them could
        be read: one that is away keeps no event of the others. Raises StoreUnavailable if none
        could.
        """
        began, now, read_at = asyncio.get_running_loop().time(), self._clock(), self._uptime()
        if not self._begun:
            await self._begin()
            full = True
        elif full and self._primaries.are_others(await self._log.primaries()):
            self._start_over("a primary was replaced or restarted")
            await self._begin()
        behind, self._changed = set(range(PARTITIONS)) if full else self._changed, set()
        failure: StoreUnavailable | None = None
        any_read = False
        while behind:
            pages = await self._history.read({n: self._entries[n] for n in behind})
            if any(isinstance(page, HistoryGone) for page in pages.values()):
                self._start_over("the log is another one than it was, or was trimmed too early")
                await self._begin()
                return True
            behind = set()
            found: list[FoundEvent] = []
            ends = list(self._entries)
            for number, page in pages.items():
                if isinstance(page, Page):
                    any_read = True
                    found += (self._found(number, *event) for event in page.events)
                    ends[number] = page.last
                    if page.more:
                        behind.add(number)
                elif isinstance(page, StoreUnavailable):
                    failure = page
            *others, last = portions(found)
            for portion in others:
                _advance(self._entries, portion)
                self._keep(portion)
            self._entries = ends
            if full and failure is None and not behind:
                self._as_of, self._read_at = now, read_at
            if last:
                self._keep(last)
        if failure is not None:
            if any_read:
                return False
            raise failure
        # It proves that all was read, so it comes only after a round that read all.
        if full and began - self._last_heartbeat >= self._heartbeat_seconds:
            self._last_heartbeat = began
            self._keep([], self._messages.read_time(self._as_of, self._read_at))
        return True

    async def _begin(self) -> None:
        """Takes its position behind all that is there."""
        primaries = await self._log.primaries()
        self._read_at = self._uptime()
        position = await self._log.end(self._clock())
        self._primaries = Primaries(primaries)
        self._entries, self._as_of = list(position.entries), position.as_of
        self._last_heartbeat = asyncio.get_running_loop().time()
        self._begun = True

    def _start_over(self, reason: str) -> None:
        """Sends everybody away: something may have been missed, and what they cache may never have
        been.
        """
        _log.warning("watches_expired", reason=reason, watchers=len(self._watchers))
        for watcher in self._watchers:
            if watcher.begun:
                self._expire(watcher)
        self._begun = False

    def _position(self) -> LogPosition:
        return LogPosition(tuple(self._entries), self._as_of, self._log.memory)

    def _found(self, number: int, entry: EntryId, recorded: RecordedEvent) -> FoundEvent:
        event, message = recorded.event, self._messages.event(recorded)
        return FoundEvent(number, entry, WrittenEvent(event.type, event.user_id, message))

    def _keep(self, events: Iterable[FoundEvent], heartbeat: bytes = b"") -> None:
        """Remembers a batch, tells everybody, and forgets what is too old."""
        written = tuple(event.written for event in events)
        cursor = self._messages.cursor(cursor_of(self._position()))
        needed = min((watcher.needs for watcher in self._watchers), default=math.inf)
        self._recent.forget_before(int(min(needed, self._recent.end)))
        self._recent.add(Batch(written, cursor, heartbeat))
        for watcher in self._watchers:
            if 0 < watcher.next < self._recent.first:
                self._expire(watcher)
        _settle(self._news, True)

    def _expire(self, watcher: _Watcher) -> None:
        if not watcher.expired:
            self._metrics.watches_expired.inc()
            watcher.expire()


def _advance(entries: list[EntryId], events: Iterable[FoundEvent]) -> None:
    """Moves a position in the log behind these events."""
    for event in events:
        entries[event.partition] = event.entry


def _settle(future: asyncio.Future[bool] | None, outcome: bool | Exception) -> None:
    if future is None or future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
        future.exception()  # the watcher that waited may have gone
    else:
        future.set_result(outcome)


def _position_of(cursor: str) -> LogPosition:
    position = parse_cursor(cursor, PARTITIONS)
    if position is None:
        raise InvalidRequest(
            [FieldViolation("cursor", "must be the cursor of a message of an earlier watch")]
        )
    return position
