"""The short memory that all watchers of a process read from, each at its own pace.

Batches that all watchers have read go at once. The memory is bounded: beyond that the oldest
batches go, and a watcher that still needs them is sent away. So no watcher costs more memory than
another. A message that several watchers get is put together once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from session_authority.domain.events import EventFilter, EventType
from session_authority.store.log_position import EntryId

# How far behind a watcher may fall.
MAX_RECENT_EVENTS, MAX_RECENT_BYTES = 8192, 8 * 1024 * 1024
# The memory of an event, and of a batch, beside their bytes (measured: 180 and 270).
_EVENT_BYTES, _BATCH_BYTES = 200, 300
# How much goes into one message. Clients of gRPC take 4 MiB, unless they are set to take more.
MAX_MESSAGE_EVENTS, MAX_MESSAGE_BYTES = 500, 1024 * 1024
# How many messages that were put together are remembered for the next watcher.
MAX_JOINED_MESSAGES = 16


@dataclass(frozen=True, slots=True)
class WrittenEvent:
    """An event's part of a message, and what the event is chosen by. Nothing else of the event is
    kept: an event takes several times its message.
    """

    type: EventType
    user_id: str
    message: bytes


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event, and where in the log it is: in which partition, and in which entry of it."""

    partition: int
    entry: EntryId
    written: WrittenEvent


@dataclass(frozen=True, slots=True)
class Proof:
    """A part of a message that says until when everything was told, but for these partitions."""

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
    """The events of one read of the log, and the place that the read reached. A heartbeat has no
    events: it proves that everything was read.
    """

    events: tuple[WrittenEvent, ...]
    cursor: bytes
    proof: Proof = NO_PROOF
    oldest_ms: int | None = None
    """When the oldest of its events was committed, by Redis' clock; None without events."""

    @property
    def size(self) -> int:
        """Bytes that it is sent as."""
        return (
            sum(len(event.message) for event in self.events)
            + len(self.cursor)
            + len(self.proof.message)
        )

    @property
    def held_bytes(self) -> int:
        """Bytes that it takes in memory."""
        names = sum(len(event.user_id) for event in self.events)
        return self.size + names + _EVENT_BYTES * len(self.events) + _BATCH_BYTES


class RecentBatches:
    """The latest batches by their numbers, from `first` up to but without `end`."""

    def __init__(self) -> None:
        self.batches: dict[int, Batch] = {}
        self.first = self.end = 1  # 0 is where a watcher is that has not joined yet
        self.held_events = self.held_bytes = 0
        self.joined: dict[tuple[int, int], bytes] = {}

    def add(self, batch: Batch) -> None:
        """Remembers a batch, and forgets those that are too many."""
        self.batches[self.end] = batch
        self.end += 1
        self.held_events += len(batch.events)
        self.held_bytes += batch.held_bytes
        self.joined.clear()
        while self.held_events > MAX_RECENT_EVENTS or self.held_bytes > MAX_RECENT_BYTES:
            self._forget_first()

    def forget_before(self, number: int) -> None:
        """Forgets the batches that nobody needs any more."""
        while self.first < number:
            self._forget_first()

    def _forget_first(self) -> None:
        old = self.batches.pop(self.first)
        self.first += 1
        self.held_events -= len(old.events)
        self.held_bytes -= old.held_bytes

    def message_from(self, start: int, wanted: Wanted) -> tuple[bytes, int]:
        """The next message for a watcher that has read everything before `start`, and where it goes
        on. The message is empty if the filter leaves nothing to say.
        """
        end = self._reach(start)
        if not wanted.only.is_open:
            return _joined(self._between(start, end), wanted), end
        message = self.joined.get((start, end))
        if message is None:
            message = _joined(self._between(start, end), wanted)
            # Watchers that are behind by different lengths share little.
            if len(self.joined) == MAX_JOINED_MESSAGES:
                self.joined.clear()
            self.joined[start, end] = message
        return message, end

    def oldest_ms(self, start: int, end: int) -> int | None:
        """When the oldest event of these batches was committed, if they have events."""
        moments = [batch.oldest_ms for batch in self._between(start, end)]
        return min((ms for ms in moments if ms is not None), default=None)

    def _reach(self, start: int) -> int:
        """The end of as many batches as fit into one message, but of one at least."""
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
    """The events in the same order, in lists that fit into one message each; one list at least."""
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
