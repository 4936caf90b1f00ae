"""Reads the log of events for all who watch in this process: one reader, however many watch.

The reader is woken when a partition has news, and looks at all of them once a second in case a
wake-up was lost. Of a cluster each primary stands alone: while one is away the others' events are
told, and its own follow from where it was read, without a gap. Only nothing proves meanwhile that
all of its events were told.

A primary that was started again where it was goes on with the same log. It may have forgotten what
it wrote last, which nobody was told. But what a cache keeps may rest on it, so nothing is proven
for as long as a cache may believe the last proof.
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
# Caches believe a proof for 15 seconds, and clocks may run a little apart.
SILENCE = timedelta(seconds=20)
# How far a reader that has not read a partition yet goes back for somebody who was told less.
_MAX_STEP_BACK = timedelta(minutes=5)

_log = structlog.get_logger(__name__)

Lost = Callable[[frozenset[int], str], None]
Told = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Look:
    """A look at all partitions: when it began, by both clocks, and of which partitions nothing
    proves that all was read by then.
    """

    moment: datetime
    uptime: timedelta
    unproven: frozenset[int]


class Reader:
    """Reads on while somebody watches. For as long as it runs it has one position in the log.

    `lost` is called with the partitions of which something may have been missed, and a reason for
    the log; `told` when there is another batch in `recent`.
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
        # Where it does not know more than a moment.
        self._unread: set[int] = set()
        self._primaries = Primaries()
        self._silent_until: dict[int, timedelta] = {}
        self._unproven: frozenset[int] = frozenset()
        self._changed: set[int] = set()
        self._bell = asyncio.Event()
        self._wanted: asyncio.Future[Look] | None = None
        self._last_heartbeat = 0.0

    async def run(self) -> NoReturn:
        """Reads until it is cancelled."""
        async with self._log.listening(self._hear):
            loop = asyncio.get_running_loop()
            next_poll = loop.time()
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_poll):
                        await self._bell.wait()
                self._bell.clear()
                wanted, self._wanted = self._wanted, None
                full = wanted is not None or loop.time() >= next_poll
                outcome: Look | Exception
                try:
                    outcome = await self._round(full)
                except StoreUnavailable as error:
                    outcome = error
                except Exception as error:  # noqa: BLE001
                    # It must go on; the watchers that wait for this round learn of it.
                    _log.error("feed_failed", **logs.fault(error))
                    self.start_over("what was read could not be told")
                    outcome = StoreUnavailable()
                if full:
                    next_poll = loop.time() + self._poll_seconds
                settle(wanted, outcome)

    async def fresh_look(self) -> Look:
        """Waits until every partition was looked at by a round that began after this was called.
        Raises StoreUnavailable if none could be read.
        """
        if self._wanted is None:
            self._wanted = asyncio.get_running_loop().create_future()
            self._bell.set()
        return await asyncio.shield(self._wanted)

    def position(self) -> LogPosition:
        """How far it has read."""
        return LogPosition(tuple(self._entries), self._as_of, self._log.memory)

    def meet(self, start: LogPosition) -> LogPosition:
        """Agrees with a watcher that goes on from there where to read the partitions of which one
        of the two knows no more than a moment: from the earlier of the two positions, so that no
        watcher misses an event. An entry that the reader has read before that moment is a place
        that is known, even while the partition is away.
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
        """Takes its position behind all that is in these partitions, at the next round, and says
        that something may have been missed: what caches hold may never have been.
        """
        self._unplaced |= partitions
        self._lost(partitions, reason)

    def _hear(self, number: int | None) -> None:
        self._changed.update(range(PARTITIONS) if number is None else [number])
        self._bell.set()

    async def _round(self, full: bool) -> Look:
        """Reads all partitions to their ends, or those with news: one that is away keeps no event
        of the others. Raises StoreUnavailable if none could be read.
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
        """The pages after its position, and the partitions in which it went back meanwhile: these
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
        """Starts over where the log is another one than it was: with all partitions of the same
        primaries, which nobody knows more of. Returns these.
        """
        lost = self._primaries.with_same_primary(gone)
        self.start_over("the log is another one than it was, or was trimmed too early", lost)
        await self._take_places()
        return lost

    def _silent(self, uptime: timedelta) -> frozenset[int]:
        self._silent_until = {n: until for n, until in self._silent_until.items() if uptime < until}
        return frozenset(self._silent_until)

    def _prove(self, look: Look, began: float) -> None:
        """Keeps a heartbeat if it is time for one, or if more is proven again than before."""
        recovered = self._unproven - look.unproven
        self._unproven = look.unproven
        due = began - self._last_heartbeat >= self._heartbeat_seconds
        if look.unproven != EVERY_PARTITION and (due or recovered):
            self._last_heartbeat = began
            proof = self._messages.read_time(look.moment, look.uptime)
            self._keep([], Proof(proof, look.unproven))

    def _advance(self, pages: Pages) -> list[FoundEvent]:
        """Moves behind what was read, and keeps all of it but the last portion: returns that."""
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
        """An event as it is told."""
        event, message = recorded.event, self._messages.event(recorded)
        return FoundEvent(number, entry, WrittenEvent(event.type, event.user_id, message))

    def _keep(self, events: Sequence[FoundEvent], proof: Proof = NO_PROOF) -> None:
        """Remembers a batch, and has everybody told."""
        written = tuple(event.written for event in events)
        cursor = self._messages.cursor(cursor_of(self.position()))
        oldest_ms = min((event.entry[0] for event in events), default=None)
        self.recent.add(Batch(written, cursor, proof, oldest_ms))
        self._told()


def advance(entries: list[EntryId], events: Iterable[FoundEvent]) -> None:
    """Moves a position in the log behind these events."""
    for event in events:
        entries[event.partition] = event.entry


def settle(future: asyncio.Future[Any] | None, outcome: object) -> None:
    """Ends the wait for a future, if somebody waits: with a result, or with an exception."""
    if future is None or future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
        future.exception()  # the watcher that waited may have gone
    else:
        future.set_result(outcome)
