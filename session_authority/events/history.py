"""Reads the log of events from the position of a watcher or of the reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from session_authority.domain.errors import CursorExpired, StoreUnavailable
from session_authority.store import EventLog
from session_authority.store.event_log import HistoryGone, Page, trim_margin
from session_authority.store.log_position import EntryId, LogPosition

# How many events one read returns at most, so that other calls get their turn.
MAX_READ_EVENTS = 256

Pages = Mapping[int, Page | HistoryGone | StoreUnavailable]


class History:
    """Reads the events in the log in pages, so that other calls get their turn."""

    def __init__(self, log: EventLog, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._clock = clock

    async def read(self, after: Mapping[int, EntryId], limit: int = 0) -> Pages:
        """Reads, for each given partition, the page after an entry. The result has the reason for a
        partition without a page.
        """
        if not after:
            return {}
        limit = limit or max(MAX_READ_EVENTS // len(after), 4)
        return await self._log.read(after, limit=limit, now=self._clock())

    async def read_on(self, after: Mapping[int, EntryId], limit: int = 0) -> dict[int, Page]:
        """Reads, for each given partition, the page after an entry. Raises CursorExpired if events
        after one of the entries are missing, StoreUnavailable if a partition can't be read.
        """
        pages: dict[int, Page] = {}
        for number, page in (await self.read(after, limit)).items():
            if isinstance(page, HistoryGone):
                raise CursorExpired
            if isinstance(page, StoreUnavailable):
                raise page
            pages[number] = page
        return pages

    async def start_of(self, since: LogPosition | datetime) -> LogPosition:
        """The position at which a watch from a cursor or a moment begins. Raises CursorExpired for
        a cursor that is too old, StoreUnavailable if a moment can't be found in any partition.
        """
        now, memory = self._clock(), self._log.memory
        if isinstance(since, datetime):
            # All events since the moment come after the position. So the time of the position is
            # usually the moment itself, but it is never in the future. If the moment is older than
            # the log, a time within the log is used, so that the watch's cursors can be resumed for
            # a while. But events that the watcher has not received may be trimmed in the meantime.
            as_of = min(max(since, now - memory + 2 * trim_margin(memory)), now)
            return await self._log.at(since, as_of)
        # A cursor must be younger than the oldest event that is kept. If the setting for how long
        # events are kept was changed after the cursor was made, the shorter time counts.
        memory = min(since.memory, memory)
        if since.as_of < now - memory + trim_margin(memory):
            raise CursorExpired
        return replace(since, memory=memory)

    async def check(self, start: LogPosition, tip: LogPosition, partitions: Iterable[int]) -> None:
        """Checks that the log still has the events that followed a position in these partitions. A
        partition is not checked if the reader of the log is at the same entry.

        Args:
            start: The position.
            tip: The position of the reader of the log.
            partitions: The partitions.

        Raises CursorExpired if events are missing, StoreUnavailable if a partition can't be read.
        """
        entries = start.entries
        behind = {n: entries[n] for n in partitions if entries[n] != tip.entries[n]}
        await self.read_on(behind, limit=1)
