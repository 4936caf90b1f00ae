"""Keeps the events of one partition in order while they are delivered.

The events of one user are sent one after the other. Events of different users don't wait for each
other. This module sends nothing, and does not use the store.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime

from session_authority.store.deliveries import TakenEvent
from session_authority.store.log_position import EntryId

# The limit of events in a window. Of one user's events, only the first few count toward this limit.
_MAX_EVENTS = 128
# Of one user's events in a window, at most this many count toward _MAX_EVENTS. So a user whose
# events can't be delivered leaves room for the events of other users.
_MAX_COUNTED_EVENTS_PER_USER = 8
# The limit of all events in a window, including those that don't count toward _MAX_EVENTS. All
# events of a window must fit into memory.
_MAX_EVENTS_IN_MEMORY = 4096
# The limit of the encoded bytes of all events in a window. Most events have a few hundred bytes.
# One read of the log may exceed the limit. Each event also takes up to 512 other bytes of memory,
# so a full window takes about 4 MiB.
MAX_BYTES_IN_MEMORY = 2 * 1024 * 1024


class Window:
    """Holds the events of one partition that were taken from the log and are not yet settled."""

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
        """Adds an event, with the time at which its delivery became due. Returns True if the window
        has no other event of the user.
        """
        self._due_at[taken.entry] = due_at
        self._bytes += len(taken.raw)
        queue = self._queues.setdefault(user, deque())
        queue.append(taken)
        return len(queue) == 1

    def first(self, user: str) -> TakenEvent | None:
        """Returns the first event of the user in the window, or None if the window has no event of
        the user.
        """
        queue = self._queues.get(user)
        return queue[0] if queue else None

    def due_at(self, taken: TakenEvent) -> datetime:
        """Returns the time at which the delivery of an event became due. The relay counts from this
        time how long the attempts have failed.
        """
        return self._due_at[taken.entry]

    def remove_first(self, user: str) -> None:
        """Removes the first event of the user from the window."""
        queue = self._queues[user]
        taken = queue.popleft()
        del self._due_at[taken.entry]
        self._bytes -= len(taken.raw)
        if not queue:
            del self._queues[user]
