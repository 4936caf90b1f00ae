"""Keeps the order of one partition's events that are under way.

The events of one user are sent one after the other. Events of different users don't wait for each
other. This module sends nothing and knows no store.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime

from session_authority.store.deliveries import TakenEvent
from session_authority.store.log_position import EntryId

# While this many counted events of a partition are taken and not yet settled, no more events are
# taken from the log.
_MAX_EVENTS = 128
# At most this many events of one user are counted. A user whose events can't be delivered must
# leave room for other users.
_MAX_COUNTED_EVENTS_PER_USER = 8
# All events that were taken must fit into memory, even if they are not counted.
_MAX_EVENTS_IN_MEMORY = 4096
# The limit of the bytes of events, as they are in the log. Most events have a few hundred bytes.
# One read may exceed the limit. An event takes up to 512 more bytes of memory, so all events take
# at most 4 MiB.
MAX_BYTES_IN_MEMORY = 2 * 1024 * 1024


class Window:
    """The events of one partition that were taken from the log and are not yet settled."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[TakenEvent]] = {}
        self._due_at: dict[EntryId, datetime] = {}
        self._bytes = 0

    def room(self) -> int:
        """Returns how many more events may be taken from the log."""
        if self._bytes >= MAX_BYTES_IN_MEMORY:
            return 0
        counted = sum(
            min(len(queue), _MAX_COUNTED_EVENTS_PER_USER) for queue in self._queues.values()
        )
        return max(min(_MAX_EVENTS - counted, _MAX_EVENTS_IN_MEMORY - len(self._due_at)), 0)

    def entries(self) -> set[EntryId]:
        """Returns the log entries of all events in this window."""
        return set(self._due_at)

    def add(self, user: str, taken: TakenEvent, due_at: datetime) -> bool:
        """Adds an event with its due time. Returns True if it is the user's only event here."""
        self._due_at[taken.entry] = due_at
        self._bytes += len(taken.raw)
        queue = self._queues.setdefault(user, deque())
        queue.append(taken)
        return len(queue) == 1

    def first(self, user: str) -> TakenEvent | None:
        """Returns the user's first event, or None if the user has no event here."""
        queue = self._queues.get(user)
        return queue[0] if queue else None

    def due_at(self, taken: TakenEvent) -> datetime:
        """Returns the time at which an event became due. By default the relay gives up a day
        later.
        """
        return self._due_at[taken.entry]

    def remove_first(self, user: str) -> None:
        """Removes the user's first event, which has arrived or was given up."""
        queue = self._queues[user]
        taken = queue.popleft()
        del self._due_at[taken.entry]
        self._bytes -= len(taken.raw)
        if not queue:
            del self._queues[user]
