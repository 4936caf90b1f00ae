"""Describes a reader's position in the log of events: the last entry that it read of each
stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from session_authority.store.key_names import TAGS

# The ID of an entry: milliseconds since the epoch, and a number within that millisecond.
EntryId = tuple[int, int]
START: EntryId = (0, 0)
# No entry has this number. An ID with this number stands for a moment. It is the position after all
# events up to that moment.
_MOMENT = 2**64 - 1


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A position in the log. `entries` has the last entry of each stream. For a stream without
    entries it has START, and for a stream that could not be read it has a moment.

    `as_of` is the time of the position. The events that were in the log at that time come before
    the position. In three cases, some of these events may come after the position: clocks differ, a
    stream could not be read, or the position was made from a moment that is older than the log.

    `memory` is how long the log kept an event at that time. Events after the position may be
    trimmed when they are older than `memory`, even if the log keeps events for longer today.
    """

    entries: tuple[EntryId, ...]
    as_of: datetime
    memory: timedelta = timedelta.max


def behind_moment(ms: int) -> EntryId:
    """Returns an ID that stands for the last entry of a stream up to a moment. The ID is used when
    that entry is not known.
    """
    return ms, _MOMENT


def is_moment(entry: EntryId) -> bool:
    """Returns True if this ID stands for a moment. Returns False if it is the ID of an entry."""
    return entry[1] == _MOMENT


def entry_id(raw: bytes | str) -> EntryId:
    """Parses the ID of an entry from the text that Redis writes."""
    text = raw.decode() if isinstance(raw, bytes) else raw
    ms, _, number = text.partition("-")
    return int(ms), int(number)


def entry_text(entry: EntryId) -> str:
    """Returns the ID of an entry, as text for Redis."""
    return f"{entry[0]}-{entry[1]}"


def event_id(number: int, entry: EntryId) -> str:
    """Returns the ID of the event in an entry of a partition. The ID contains no full stop, because
    the signatures of webhooks join parts with full stops.
    """
    return f"evt_{TAGS[number]}_{entry[0]}_{entry[1]}"
