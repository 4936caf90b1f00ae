"""Reads the log of events for all watchers in this process. One reader serves any number of
watchers.

The reader reads a partition when Redis announces new events in the partition. The reader also reads
all partitions once a second, in case an announcement was lost. The primaries of a Redis cluster are
independent: if one primary can't be reached, the events of the other primaries are still sent. When
a primary can be reached again, the reader continues after the last entry that it read from this
primary, so no event is missing. While a primary can't be reached, the reader sends no proof for the
partitions of this primary.

If a primary is restarted on the same server, it continues the same log. But a restarted primary may
have lost its last writes, together with their events. A near cache may hold answers that depend on
lost writes, and no event corrects these answers. So the reader sends no proof for the partitions of
a restarted primary until near caches no longer trust the proofs from before the restart.
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
# A near cache trusts a proof for 15 seconds. The other 5 seconds are a margin, because clocks
# differ in speed.
SILENCE = timedelta(seconds=20)
# If a watcher begins at an earlier position than the reader, the reader moves back to the watcher's
# position in partitions that it has not read yet. But the reader does not move back for a watcher
# whose position is older than this limit.
_MAX_STEP_BACK = timedelta(minutes=5)

_log = structlog.get_logger(__name__)

Lost = Callable[[frozenset[int], str], None]
Told = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Look:
    """Describes the result of one round of the reader. `moment` is the time when the round began,
    by the wall clock. `uptime` is the same time by the monotonic clock.

    `unproven` has the partitions for which the reader can't prove that it has read all events up to
    `moment`.
    """

    moment: datetime
    uptime: timedelta
    unproven: frozenset[int]


class Reader:
    """Reads the log from one position on, while there is a watcher. Adds the events to `recent`,
    the buffer that the watchers read.

    `lost` is called with the partitions in which events may have been missed, and with a reason for
    the log messages of the service. `told` is called after a batch was added to `recent`.
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
        # The partitions in which the position is a moment, because their last entry could not be
        # read.
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
                    # round get StoreUnavailable.
                    _log.error("feed_failed", **logs.fault(error))
                    self.start_over("events that were read could not be sent")
                    outcome = StoreUnavailable()
                if full:
                    next_poll = time.monotonic() + self._poll_seconds
                settle(wanted, outcome)

    async def fresh_look(self) -> Look:
        """Waits for a round over all partitions that begins after this call, and returns its
        result. Raises StoreUnavailable if no partition could be read or the round failed.
        """
        if self._wanted is None:
            self._wanted = asyncio.get_running_loop().create_future()
            self._bell.set()
        return await asyncio.shield(self._wanted)

    def position(self) -> LogPosition:
        """Returns the position up to which the reader has read."""
        return LogPosition(tuple(self._entries), self._as_of, self._log.memory)

    def meet(self, start: LogPosition) -> LogPosition:
        """Returns the position at which a watcher starts. `start` is the position that the watcher
        asked for. May also move the reader's position back.

        In a partition, the position of the reader or of the watcher may be a moment and not an
        entry. If so, the watcher begins at the earlier of the two positions in this partition, and
        misses no event. If the reader's position is earlier, the watcher starts there. If the
        watcher's position is earlier, and the reader's position is a moment, the reader moves back
        to the watcher's position. But the reader does not move back if `start` is more than 5
        minutes old. This method does not read the log, so the primary of the partition need not
        answer.
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
        """Makes the next round move the reader's position to the end of these partitions. Calls
        `lost` at once, because watchers may miss events of these partitions.
        """
        self._unplaced |= partitions
        self._lost(partitions, reason)

    def _hear(self, number: int | None) -> None:
        self._changed.update(range(PARTITIONS) if number is None else [number])
        self._bell.set()

    async def _round(self, full: bool) -> Look:
        """Reads all partitions to their ends if `full` is True. If `full` is False, usually reads
        only the partitions with new events. If one primary gives no answer, the events of other
        primaries are still added to the buffer. Raises StoreUnavailable if none of the partitions
        could be read.
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
        """Reads the next page of each partition in `behind`. Returns the pages, and the partitions
        in which the position was moved during the read. The pages lack the moved partitions, which
        must be read again.
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
        """Calls `start_over` for the partitions in `gone`, whose logs were replaced or trimmed too
        early. The call includes all other partitions of the same primaries, because their logs may
        have been replaced, too. Returns the partitions of the call.
        """
        lost = self._primaries.with_same_primary(gone)
        self.start_over("the log was replaced, or was trimmed too early", lost)
        await self._take_places()
        return lost

    def _silent(self, uptime: timedelta) -> frozenset[int]:
        self._silent_until = {n: until for n, until in self._silent_until.items() if uptime < until}
        return frozenset(self._silent_until)

    def _prove(self, look: Look, began: float) -> None:
        """Adds a heartbeat with a proof to the buffer if a heartbeat is due, or if a partition has
        a proof again after a time without one. Adds nothing if no partition has a proof.
        """
        recovered = self._unproven - look.unproven
        self._unproven = look.unproven
        due = began - self._last_heartbeat >= self._heartbeat_seconds
        if look.unproven != EVERY_PARTITION and (due or recovered):
            self._last_heartbeat = began
            proof = self._messages.read_time(look.moment, look.uptime)
            self._keep([], Proof(proof, look.unproven))

    def _advance(self, pages: Pages) -> list[FoundEvent]:
        """Moves the reader's position to the end of these pages. Divides the events of the pages
        into portions that fit into one message. Adds all portions except the last one to the
        buffer, and returns the last portion.
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
        """Encodes an event. Returns the encoded event with its partition and its entry."""
        event, message = recorded.event, self._messages.event(recorded)
        return FoundEvent(number, entry, WrittenEvent(event.type, event.user_id, message))

    def _keep(self, events: Sequence[FoundEvent], proof: Proof = NO_PROOF) -> None:
        """Adds a batch to the buffer, and calls `told`."""
        written = tuple(event.written for event in events)
        cursor = self._messages.cursor(cursor_of(self.position()))
        oldest_ms = min((event.entry[0] for event in events), default=None)
        self.recent.add(Batch(written, cursor, proof, oldest_ms))
        self._told()


def advance(entries: list[EntryId], events: Iterable[FoundEvent]) -> None:
    """Moves a position forward: in each partition, to the last of these events."""
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
        # If no watcher waits any longer, nothing else reads the exception, and asyncio would log
        # it. This call reads the exception, so that asyncio does not log it.
        future.exception()
    else:
        future.set_result(outcome)
