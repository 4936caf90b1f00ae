"""A reader's position in the log of events: the last entry that it read of each stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from session_authority.store.key_names import TAGS

# An entry's ID: milliseconds since the epoch, and a number within that millisecond.
EntryId = tuple[int, int]
START: EntryId = (0, 0)
# No entry has this number. An ID with it stands for a moment: the position after all events up to
# that moment.
_MOMENT = 2**64 - 1


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A position in the log. `entries` has the last entry of each stream. It has START for a stream
    that had no entry, and a moment for a stream that could not be read.

    `as_of` is the time of the position: no event that was in the log by then comes after the
    position, apart from the difference of clocks. `memory` is how long the log kept an event at
    that time. Events after the position may be trimmed when they are older than that, even if the
    log keeps events for longer today.
    """

    entries: tuple[EntryId, ...]
    as_of: datetime
    memory: timedelta = timedelta.max


def behind_moment(ms: int) -> EntryId:
    """An ID for the last entry of a stream up to a moment, when that entry is not known."""
    return ms, _MOMENT


def is_moment(entry: EntryId) -> bool:
    """Returns True if this ID stands for a moment, and is not the ID of an entry."""
    return entry[1] == _MOMENT


def entry_id(raw: bytes | str) -> EntryId:
    """The ID of an entry, parsed from the text that Redis writes."""
    text = raw.decode() if isinstance(raw, bytes) else raw
    ms, _, number = text.partition("-")
    return int(ms), int(number)


def entry_text(entry: EntryId) -> str:
    """The ID of an entry as text for Redis."""
    return f"{entry[0]}-{entry[1]}"


def event_id(number: int, entry: EntryId) -> str:
    """The ID of the event in an entry of a partition. It has no full stop, as the signatures of
    webhooks join parts with full stops.
    """
    return f"evt_{TAGS[number]}_{entry[0]}_{entry[1]}"
