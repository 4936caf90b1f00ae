"""Owns the order of the events of a partition that are under way.

The events of one user are sent one after the other. Events of different users don't wait for each
other. This module sends nothing and knows no store.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime

from session_authority.store.deliveries import TakenEvent
from session_authority.store.log_position import EntryId

# This many events of a partition are under way or to be tried again; the others wait in the log.
_MAX_EVENTS = 128
# Of one user no more than this many count: a user whose events can't be delivered must leave room
# for other users.
_MAX_COUNTED_EVENTS_PER_USER = 8
# All events that were taken must fit into memory, whether they count or not.
_MAX_EVENTS_IN_MEMORY = 4096
# The bytes of events as they are in the log, where most have a few hundred bytes. One read may
# exceed this. Beside its bytes each event takes up to 512 bytes of memory, so all events take at
# most 4 MiB.
MAX_BYTES_IN_MEMORY = 2 * 1024 * 1024


class Window:
    """The events of one partition that were taken from the log and are not settled yet."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[TakenEvent]] = {}
        self._due_at: dict[EntryId, datetime] = {}
        self._bytes = 0

    def room(self) -> int:
        """How many more events may be taken from the log."""
        if self._bytes >= MAX_BYTES_IN_MEMORY:
            return 0
        counted = sum(
            min(len(queue), _MAX_COUNTED_EVENTS_PER_USER) for queue in self._queues.values()
        )
        return max(min(_MAX_EVENTS - counted, _MAX_EVENTS_IN_MEMORY - len(self._due_at)), 0)

    def entries(self) -> set[EntryId]:
        """The entries of the log that are under way."""
        return set(self._due_at)

    def add(self, user: str, taken: TakenEvent, due_at: datetime) -> bool:
        """Adds an event that became due at this time. Returns True if it is the user's first."""
        self._due_at[taken.entry] = due_at
        self._bytes += len(taken.raw)
        queue = self._queues.setdefault(user, deque())
        queue.append(taken)
        return len(queue) == 1

    def first(self, user: str) -> TakenEvent | None:
        """The first of the user's events, or None."""
        queue = self._queues.get(user)
        return queue[0] if queue else None

    def due_at(self, taken: TakenEvent) -> datetime:
        """When an event became due: it is given up a day after that."""
        return self._due_at[taken.entry]

    def remove_first(self, user: str) -> None:
        """Removes the user's first event: it has arrived, or was given up."""
        queue = self._queues[user]
        taken = queue.popleft()
        del self._due_at[taken.entry]
        self._bytes -= len(taken.raw)
        if not queue:
            del self._queues[user]
