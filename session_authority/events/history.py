"""Reads pages of events from the log, after given positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from session_authority.domain.errors import CursorExpired, StoreUnavailable
from session_authority.store import EventLog
from session_authority.store.event_log import HistoryGone, Page, trim_margin
from session_authority.store.log_position import EntryId, LogPosition

# The most events that one read returns by default. A longer read would keep other calls waiting.
MAX_READ_EVENTS = 256

Pages = Mapping[int, Page | HistoryGone | StoreUnavailable]


class History:
    """Reads the events of the log in pages."""

    def __init__(self, log: EventLog, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._clock = clock

    async def read(self, after: Mapping[int, EntryId], limit: int = 0) -> Pages:
        """Reads a page of each partition in `after`. `after` maps a partition to the entry before
        the page.

        In the result, a partition that could not be read has the reason in place of its page.
        `limit` is the most events of each page. If `limit` is 0, all pages together have at most
        MAX_READ_EVENTS events.
        """
        if not after:
            return {}
        limit = limit or max(MAX_READ_EVENTS // len(after), 4)
        return await self._log.read(after, limit=limit, now=self._clock())

    async def read_on(self, after: Mapping[int, EntryId], limit: int = 0) -> dict[int, Page]:
        """Reads a page of each partition in `after`, as `read` does. Raises CursorExpired if events
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
        """Returns the position at which a watch begins. `since` is the position in a cursor, or a
        moment. Raises CursorExpired if the cursor is too old. Raises StoreUnavailable if `since` is
        a moment and no partition can be read.
        """
        now, memory = self._clock(), self._log.memory
        if isinstance(since, datetime):
            # The time of the position is the moment itself, but it is never in the future. If the
            # moment is older than the log, a time within the log is used instead. Without this
            # rule, the first cursors of the watch would be too old to be resumed. But if the
            # watcher resumes with one of its first cursors, events that the watcher has not
            # received may have been trimmed.
            as_of = min(max(since, now - memory + 2 * trim_margin(memory)), now)
            return await self._log.at(since, as_of)
        # A cursor is too old if the log may have trimmed an event after the cursor's position. If
        # the setting for how long events are kept was changed after the cursor was made, the
        # shorter time counts.
        memory = min(since.memory, memory)
        if since.as_of < now - memory + trim_margin(memory):
            raise CursorExpired
        return replace(since, memory=memory)

    async def check(self, start: LogPosition, tip: LogPosition, partitions: Iterable[int]) -> None:
        """Checks that the log still has the events after a position. Skips a partition if `start`
        and `tip` have the same entry there.

        Args:
            start: The position of a watcher.
            tip: The position of the reader of the log.
            partitions: The partitions to check.

        Raises CursorExpired if events are missing, StoreUnavailable if a partition can't be read.
        """
        entries = start.entries
        behind = {n: entries[n] for n in partitions if entries[n] != tip.entries[n]}
        await self.read_on(behind, limit=1)
