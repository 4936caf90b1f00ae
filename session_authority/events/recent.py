"""Buffers the latest events for all watchers of a process. Each watcher reads from the buffer at
its own pace.

When a new batch comes, the buffer drops the batches that all watchers have read. The size of the
buffer is limited. When the buffer is full, it drops the oldest batches, and the feed ends the
watches that still need a dropped batch. So a slow watcher uses no more memory than a fast one.
Watchers without a filter that read the same batches usually share one encoded message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from session_authority.domain.events import EventFilter, EventType
from session_authority.store.log_position import EntryId

# The limits of the buffer: the most events, and the most bytes of memory.
MAX_RECENT_EVENTS, MAX_RECENT_BYTES = 8192, 8 * 1024 * 1024
# The bytes of memory that an event and a batch occupy, in addition to the bytes of their messages.
# Measured were 180 bytes for an event, and 270 for a batch.
_EVENT_BYTES, _BATCH_BYTES = 200, 300
# When a message has MAX_MESSAGE_EVENTS events or more, no further batch is added to the message. A
# message of several batches has at most MAX_MESSAGE_BYTES. By default, gRPC clients accept messages
# of up to 4 MiB.
MAX_MESSAGE_EVENTS, MAX_MESSAGE_BYTES = 500, 1024 * 1024
# The most encoded messages that are kept, in case several watchers need the same message.
MAX_JOINED_MESSAGES = 16


@dataclass(frozen=True, slots=True)
class WrittenEvent:
    """An event in its encoded form, with the fields that a watcher's filter checks. The decoded
    event is not kept, because it occupies several times as much memory as the encoded form.
    """

    type: EventType
    user_id: str
    message: bytes


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event that was read from the log, with its partition and the ID of its log entry."""

    partition: int
    entry: EntryId
    written: WrittenEvent


@dataclass(frozen=True, slots=True)
class Proof:
    """An encoded proof that all events up to a moment were sent. The proof is not valid for the
    partitions in `unproven`.
    """

    message: bytes
    unproven: frozenset[int]


NO_PROOF = Proof(b"", frozenset())


@dataclass(frozen=True, slots=True)
class Wanted:
    """Combines the filter of a watcher and the partitions that can have events for this filter."""

    only: EventFilter
    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Holds events that were read from the log together, and the cursor for the position after
    these events. A heartbeat is a batch that has a proof and no events.
    """

    events: tuple[WrittenEvent, ...]
    cursor: bytes
    proof: Proof = NO_PROOF
    oldest_ms: int | None = None
    """The time when Redis stored the oldest event of the batch, in milliseconds by the clock of
    Redis. None if the batch has no events.
    """

    @property
    def size(self) -> int:
        """Returns the largest number of bytes that the batch can add to a message for a watcher.
        A message of several batches has only the cursor of the last batch, and at most one proof.
        A filter can leave out events.
        """
        return (
            sum(len(event.message) for event in self.events)
            + len(self.cursor)
            + len(self.proof.message)
        )

    @property
    def held_bytes(self) -> int:
        """Returns the approximate number of bytes that the batch occupies in memory."""
        names = sum(len(event.user_id) for event in self.events)
        return self.size + names + _EVENT_BYTES * len(self.events) + _BATCH_BYTES


class RecentBatches:
    """Buffers the latest batches. `batches` has the batches with the numbers from `first` to `end -
    1`.
    """

    def __init__(self) -> None:
        self.batches: dict[int, Batch] = {}
        self.first = self.end = 1  # not 0, which marks a watcher without a next batch
        self.held_events = self.held_bytes = 0
        self.joined: dict[tuple[int, int], bytes] = {}

    def add(self, batch: Batch) -> None:
        """Adds a batch. Drops the oldest batches if the buffer exceeds one of its limits."""
        self.batches[self.end] = batch
        self.end += 1
        self.held_events += len(batch.events)
        self.held_bytes += batch.held_bytes
        self.joined.clear()
        while self.held_events > MAX_RECENT_EVENTS or self.held_bytes > MAX_RECENT_BYTES:
            self._forget_first()

    def forget_before(self, number: int) -> None:
        """Drops the batches before this number, because no watcher needs them any more."""
        while self.first < number:
            self._forget_first()

    def _forget_first(self) -> None:
        old = self.batches.pop(self.first)
        self.first += 1
        self.held_events -= len(old.events)
        self.held_bytes -= old.held_bytes

    def message_from(self, start: int, wanted: Wanted) -> tuple[bytes, int]:
        """Returns the next message for a watcher that has read all batches before `start`, and the
        number of the batch that the watcher reads next. The message is empty if the batches have no
        event that passes the filter, and no proof for the watcher.
        """
        end = self._reach(start)
        if not wanted.only.is_open:
            return _joined(self._between(start, end), wanted), end
        message = self.joined.get((start, end))
        if message is None:
            message = _joined(self._between(start, end), wanted)
            # If the dict has this many messages, each watcher probably reads a different batch, and
            # messages are seldom shared. So all kept messages are dropped.
            if len(self.joined) == MAX_JOINED_MESSAGES:
                self.joined.clear()
            self.joined[start, end] = message
        return message, end

    def oldest_ms(self, start: int, end: int) -> int | None:
        """Returns the time when Redis stored the oldest event of these batches, in milliseconds by
        the clock of Redis. Returns None if the batches have no events. `end` is the number after
        the last batch.
        """
        moments = [batch.oldest_ms for batch in self._between(start, end)]
        return min((ms for ms in moments if ms is not None), default=None)

    def _reach(self, start: int) -> int:
        """Returns the number after the last batch of a message that begins with the batch `start`.
        A message has at least one batch, even if this batch exceeds the limit.
        """
        end, events, size = start, 0, 0
        while end < self.end and events < MAX_MESSAGE_EVENTS:
            size += self.batches[end].size
            if size > MAX_MESSAGE_BYTES and end > start:
                break
            events += len(self.batches[end].events)
            end += 1
        return end

    def _between(self, start: int, end: int) -> list[Batch]:
        return [self.batches[number] for number in range(start, end)]


def portions(found: Iterable[FoundEvent]) -> list[list[FoundEvent]]:
    """Divides events into lists, and keeps their order. The events of one list fit into one
    message, unless one event alone is too large. Returns at least one list, which is empty if there
    are no events.
    """
    lists: list[list[FoundEvent]] = [[]]
    size = 0
    for event in found:
        size += len(event.written.message)
        if size > MAX_MESSAGE_BYTES and lists[-1]:
            lists.append([])
            size = len(event.written.message)
        lists[-1].append(event)
    return lists


def _joined(batches: list[Batch], wanted: Wanted) -> bytes:
    events = (event for batch in batches for event in batch.events)
    parts = [event.message for event in events if wanted.only.passes(event)]
    proofs = (
        batch.proof.message
        for batch in reversed(batches)
        if batch.proof.message and not batch.proof.unproven & wanted.partitions
    )
    proof = next(proofs, b"")
    if not parts and not proof:
        return b""
    return b"".join((*parts, batches[-1].cursor, proof))
