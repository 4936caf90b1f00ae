"""The short memory from which all watchers of a process read, each watcher at its own pace.

Batches that all watchers have read are forgotten when the next batch comes. The memory is limited.
When it is full, the oldest batches are forgotten, and the watch of a watcher that still needs them
is ended. So no watcher costs more memory than another. A message for several watchers without a
filter is built once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from session_authority.domain.events import EventFilter, EventType
from session_authority.store.log_position import EntryId

# By how many events and bytes a watcher may fall behind.
MAX_RECENT_EVENTS, MAX_RECENT_BYTES = 8192, 8 * 1024 * 1024
# The bytes of memory for an event and for a batch, in addition to the bytes of their messages
# (measured: 180 and 270).
_EVENT_BYTES, _BATCH_BYTES = 200, 300
# When a message has this many events or more, no further batch is added. A message of several
# batches has at most this many bytes. Clients of gRPC accept 4 MiB, unless they are set to accept
# more.
MAX_MESSAGE_EVENTS, MAX_MESSAGE_BYTES = 500, 1024 * 1024
# How many built messages are remembered for other watchers.
MAX_JOINED_MESSAGES = 16


@dataclass(frozen=True, slots=True)
class WrittenEvent:
    """The part of a message that describes an event, and the fields by which a watcher chooses
    events. The event itself is not kept, as it occupies several times as much memory as its
    message.
    """

    type: EventType
    user_id: str
    message: bytes


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event and its place in the log: the partition and the entry."""

    partition: int
    entry: EntryId
    written: WrittenEvent


@dataclass(frozen=True, slots=True)
class Proof:
    """The part of a message which says up to which moment all events were sent. The proof is not
    valid for the partitions in `unproven`.
    """

    message: bytes
    unproven: frozenset[int]


NO_PROOF = Proof(b"", frozenset())


@dataclass(frozen=True, slots=True)
class Wanted:
    """The events that a watcher wants, and the partitions that can have such events."""

    only: EventFilter
    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """The events from one read of the log, and the position that the read reached. A heartbeat is a
    batch without events: it proves that all events were read.
    """

    events: tuple[WrittenEvent, ...]
    cursor: bytes
    proof: Proof = NO_PROOF
    oldest_ms: int | None = None
    """When the oldest event of the batch was committed, in ms by the clock of Redis. None if the
    batch has no events.
    """

    @property
    def size(self) -> int:
        """The number of bytes of the batch in a message."""
        return (
            sum(len(event.message) for event in self.events)
            + len(self.cursor)
            + len(self.proof.message)
        )

    @property
    def held_bytes(self) -> int:
        """The number of bytes that the batch occupies in memory."""
        names = sum(len(event.user_id) for event in self.events)
        return self.size + names + _EVENT_BYTES * len(self.events) + _BATCH_BYTES


class RecentBatches:
    """The latest batches by their numbers, from `first` to the number before `end`."""

    def __init__(self) -> None:
        self.batches: dict[int, Batch] = {}
        self.first = self.end = 1  # not 0, as 0 stands for a watcher that has not joined yet
        self.held_events = self.held_bytes = 0
        self.joined: dict[tuple[int, int], bytes] = {}

    def add(self, batch: Batch) -> None:
        """Adds a batch, and forgets the oldest batches if the memory is full."""
        self.batches[self.end] = batch
        self.end += 1
        self.held_events += len(batch.events)
        self.held_bytes += batch.held_bytes
        self.joined.clear()
        while self.held_events > MAX_RECENT_EVENTS or self.held_bytes > MAX_RECENT_BYTES:
            self._forget_first()

    def forget_before(self, number: int) -> None:
        """Forgets the batches before this number, as no watcher needs them any more."""
        while self.first < number:
            self._forget_first()

    def _forget_first(self) -> None:
        old = self.batches.pop(self.first)
        self.first += 1
        self.held_events -= len(old.events)
        self.held_bytes -= old.held_bytes

    def message_from(self, start: int, wanted: Wanted) -> tuple[bytes, int]:
        """The next message for a watcher that has read all batches before `start`, and the number
        of the batch with which the watcher continues. The message is empty if the filter leaves
        nothing to send.
        """
        end = self._reach(start)
        if not wanted.only.is_open:
            return _joined(self._between(start, end), wanted), end
        message = self.joined.get((start, end))
        if message is None:
            message = _joined(self._between(start, end), wanted)
            # If there are this many messages, each watcher is probably at a different batch. Then
            # messages are seldom shared, so all of them are forgotten.
            if len(self.joined) == MAX_JOINED_MESSAGES:
                self.joined.clear()
            self.joined[start, end] = message
        return message, end

    def oldest_ms(self, start: int, end: int) -> int | None:
        """When the oldest event of these batches was committed, in ms by the clock of Redis. None
        if they have no events.
        """
        moments = [batch.oldest_ms for batch in self._between(start, end)]
        return min((ms for ms in moments if ms is not None), default=None)

    def _reach(self, start: int) -> int:
        """The number after the last batch that fits into one message with the batches from `start`
        on. The message has at least one batch, even if that batch is too large.
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
    """The events in the same order, in lists that each fit into one message. There is at least one
    list, which may be empty.
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
