"""Reads the log of events for all watchers in this process. There is one reader for any number of
watchers.

The reader wakes when a partition has new events. It also reads all partitions once a second, in
case a wake-up was lost. In a cluster each primary is independent: while one primary is away, the
events of the others are sent. When that primary is back, its own events follow without a gap, from
the entry that was read last. Until then, there is no proof that all of its events were sent.

A primary that was restarted on the same server continues the same log. The primary may have lost
its last writes, and the events of these writes. A cache may hold answers that depend on the lost
writes, and no event corrects these answers. So the reader sends no proof for as long as a cache may
believe the last proof.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NoReturn

import structlog

from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.events import RecordedEvent
from session_authority.events.cursors import cursor_of
from session_authority.events.history import History, Pages
from session_authority.events.messages import WatchMessages
from session_authority.events.primaries import Primaries
from session_authority.events.recent import (
    NO_PROOF,
    Batch,
    FoundEvent,
    Proof,
    RecentBatches,
    WrittenEvent,
    portions,
)
from session_authority.runtime import logs
from session_authority.store import EventLog
from session_authority.store.event_log import HistoryGone, Page
from session_authority.store.key_names import PARTITIONS
from session_authority.store.log_position import EntryId, LogPosition, is_moment

EVERY_PARTITION = frozenset(range(PARTITIONS))
# Caches believe a proof for 15 seconds, and clocks may differ in speed a little.
SILENCE = timedelta(seconds=20)
# How far back the reader goes for a watcher with an earlier position, in a partition that the
# reader has not read yet.
_MAX_STEP_BACK = timedelta(minutes=5)

_log = structlog.get_logger(__name__)

Lost = Callable[[frozenset[int], str], None]
Told = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one round over all partitions. `moment` is the time of the wall clock when the
    round began, and `uptime` is the time of the monotonic clock.

    `unproven` has the partitions for which there is no proof that all events up to that time were
    read.
    """

    moment: datetime
    uptime: timedelta
    unproven: frozenset[int]


class Reader:
    """Reads the log while there is a watcher. While it runs, the reader has one position in the
    log.

    `lost` is called with the partitions in which events may have been missed, and with a reason for
    the log lines of the service. `told` is called when `recent` has another batch.
    """

    def __init__(
        self,
        log: EventLog,
        messages: WatchMessages,
        clock: Callable[[], datetime],
        uptime: Callable[[], timedelta],
        *,
        poll_interval: timedelta,
        heartbeat_interval: timedelta,
        lost: Lost,
        told: Told,
    ) -> None:
        self._log = log
        self._history = History(log, clock)
        self._messages = messages
        self._clock = clock
        self._uptime = uptime
        self._poll_seconds = poll_interval.total_seconds()
        self._heartbeat_seconds = heartbeat_interval.total_seconds()
        self._lost = lost
        self._told = told
        self.recent = RecentBatches()
        self._entries: list[EntryId] = []
        self._as_of = clock()
        self._unplaced = EVERY_PARTITION
        # The partitions in which the position is only a moment, and not an entry.
        self._unread: set[int] = set()
        self._primaries = Primaries()
        self._silent_until: dict[int, timedelta] = {}
        self._unproven: frozenset[int] = frozenset()
        self._changed: set[int] = set()
        self._bell = asyncio.Event()
        self._wanted: asyncio.Future[Look] | None = None
        self._last_heartbeat = 0.0

    async def run(self) -> NoReturn:
        """Reads the log until the task is cancelled."""
        async with self._log.listening(self._hear):
            next_poll = time.monotonic()
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_poll):
                        await self._bell.wait()
                self._bell.clear()
                wanted, self._wanted = self._wanted, None
                full = wanted is not None or time.monotonic() >= next_poll
                outcome: Look | Exception
                try:
                    outcome = await self._round(full)
                except StoreUnavailable as error:
                    outcome = error
                except Exception as error:  # noqa: BLE001
                    # The reader must continue after any error. The watchers that wait for this
                    # round get the error.
                    _log.error("feed_failed", **logs.fault(error))
                    self.start_over("events that were read could not be sent")
                    outcome = StoreUnavailable()
                if full:
                    next_poll = time.monotonic() + self._poll_seconds
                settle(wanted, outcome)

    async def fresh_look(self) -> Look:
        """Waits until a round that began after this call has looked at every partition. Raises
        StoreUnavailable if no partition could be read.
        """
        if self._wanted is None:
            self._wanted = asyncio.get_running_loop().create_future()
            self._bell.set()
        return await asyncio.shield(self._wanted)

    def position(self) -> LogPosition:
        """The position up to which the reader has read."""
        return LogPosition(tuple(self._entries), self._as_of, self._log.memory)

    def meet(self, start: LogPosition) -> LogPosition:
        """Returns the position at which a watcher starts. `start` is the watcher's own position.
        May move the reader's position back to the watcher's position.

        This is necessary for partitions in which the reader's or the watcher's position is only a
        moment. These partitions are read from the earlier of the two positions, so that no watcher
        misses an event. If the reader has read an entry before the watcher's moment, the watcher
        starts after this entry. This works even while the primary of the partition is away.
        """
        recent = self._clock() - start.as_of <= _MAX_STEP_BACK
        entries = list(start.entries)
        for number, (mine, other) in enumerate(zip(self._entries, start.entries, strict=True)):
            unread = number in self._unread
            if mine <= other and (unread or is_moment(other)):
                entries[number] = mine
            elif unread and recent:
                self._entries[number] = other
        return replace(start, entries=tuple(entries))

    def start_over(self, reason: str, partitions: frozenset[int] = EVERY_PARTITION) -> None:
        """Moves the reader's position to the end of these partitions at the next round. Calls
        `lost`, because watchers may have missed events. Caches may then hold answers that depend on
        lost writes.
        """
        self._unplaced |= partitions
        self._lost(partitions, reason)

    def _hear(self, number: int | None) -> None:
        self._changed.update(range(PARTITIONS) if number is None else [number])
        self._bell.set()

    async def _round(self, full: bool) -> Look:
        """Reads all partitions to their ends, or only the partitions with new events. A partition
        whose primary is away does not delay the events of the others. Raises StoreUnavailable if no
        partition could be read.
        """
        began, moment, uptime = time.monotonic(), self._clock(), self._uptime()
        full |= bool(self._unplaced)
        if full:
            self._note_primaries(await self._log.primaries())
            await self._take_places()
        behind, self._changed = set(EVERY_PARTITION) if full else self._changed, set()
        failures: dict[int, StoreUnavailable] = {}
        any_read = False
        while behind:
            pages, moved = await self._read(behind)
            failures |= {n: page for n, page in pages.items() if isinstance(page, StoreUnavailable)}
            any_read |= not pages.keys() <= failures.keys()
            behind = moved | {n for n, p in pages.items() if isinstance(p, Page) and p.more}
            last = self._advance(pages)
            if gone := {n for n, page in pages.items() if isinstance(page, HistoryGone)}:
                behind -= await self._lose(gone)
            if full and not failures and not behind:
                self._as_of = moment
            if last:
                self._keep(last)
        if failures and not any_read:
            raise next(iter(failures.values()))
        look = Look(moment, uptime, self._silent(uptime).union(failures))
        if full:
            self._prove(look, began)
        return look

    async def _read(self, behind: set[int]) -> tuple[Pages, set[int]]:
        """Reads the pages after the reader's position. Also returns the partitions in which the
        position was moved during the read: these must be read again.
        """
        asked = {number: self._entries[number] for number in behind}
        pages = await self._history.read(asked)
        moved = {number for number in asked if self._entries[number] != asked[number]}
        return {n: page for n, page in pages.items() if n not in moved}, moved

    def _note_primaries(self, names: Iterable[str | None]) -> None:
        changes = self._primaries.changes(names)
        if changes.moved:
            self.start_over("a primary was replaced or restarted", changes.moved)
        if changes.restarted:
            _log.warning("primary_restarted", partitions=len(changes.restarted))
            self._silent_until |= dict.fromkeys(changes.restarted, self._uptime() + SILENCE)

    async def _take_places(self) -> None:
        if not self._unplaced:
            return
        position = await self._log.end(self._clock())
        if not self._entries:
            self._entries, self._last_heartbeat = list(position.entries), time.monotonic()
        for number in self._unplaced:
            self._entries[number] = position.entries[number]
        self._unread -= self._unplaced
        self._unread |= {n for n in self._unplaced if is_moment(position.entries[n])}
        self._unplaced = frozenset()

    async def _lose(self, gone: set[int]) -> frozenset[int]:
        """Starts over in partitions whose log was replaced or trimmed too early. Also starts over
        in all other partitions of the same primaries, as these may have changed, too. Returns all
        these partitions.
        """
        lost = self._primaries.with_same_primary(gone)
        self.start_over("the log was replaced, or was trimmed too early", lost)
        await self._take_places()
        return lost

    def _silent(self, uptime: timedelta) -> frozenset[int]:
        self._silent_until = {n: until for n, until in self._silent_until.items() if uptime < until}
        return frozenset(self._silent_until)

    def _prove(self, look: Look, began: float) -> None:
        """Adds a heartbeat to the recent batches if a heartbeat is due, or if a partition without
        proof has a proof again.
        """
        recovered = self._unproven - look.unproven
        self._unproven = look.unproven
        due = began - self._last_heartbeat >= self._heartbeat_seconds
        if look.unproven != EVERY_PARTITION and (due or recovered):
            self._last_heartbeat = began
            proof = self._messages.read_time(look.moment, look.uptime)
            self._keep([], Proof(proof, look.unproven))

    def _advance(self, pages: Pages) -> list[FoundEvent]:
        """Moves the position to the end of the pages. Divides their events into portions. Adds all
        portions except the last one to the recent batches, and returns the last portion.
        """
        found: list[FoundEvent] = []
        ends = list(self._entries)
        for number, page in pages.items():
            if isinstance(page, Page):
                found += (self.found(number, *event) for event in page.events)
                ends[number] = page.last
                self._unread.discard(number)
        *others, last = portions(found)
        for portion in others:
            advance(self._entries, portion)
            self._keep(portion)
        self._entries = ends
        return last

    def found(self, number: int, entry: EntryId, recorded: RecordedEvent) -> FoundEvent:
        """The event as a `FoundEvent`: its place in the log, and its encoded message."""
        event, message = recorded.event, self._messages.event(recorded)
        return FoundEvent(number, entry, WrittenEvent(event.type, event.user_id, message))

    def _keep(self, events: Sequence[FoundEvent], proof: Proof = NO_PROOF) -> None:
        """Adds a batch to the recent batches, and calls `told`."""
        written = tuple(event.written for event in events)
        cursor = self._messages.cursor(cursor_of(self.position()))
        oldest_ms = min((event.entry[0] for event in events), default=None)
        self.recent.add(Batch(written, cursor, proof, oldest_ms))
        self._told()


def advance(entries: list[EntryId], events: Iterable[FoundEvent]) -> None:
    """Moves a position in the log to the end of these events."""
    for event in events:
        entries[event.partition] = event.entry


def settle(future: asyncio.Future[Any] | None, outcome: object) -> None:
    """Completes a future with a result or an exception. Does nothing if there is no future, or if
    the future is already done.
    """
    if future is None or future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
        # If no watcher waits any more, nothing else reads the exception, and asyncio would log it.
        future.exception()
    else:
        future.set_result(outcome)
