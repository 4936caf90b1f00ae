"""Describes a reader's position in the log of events: for each stream, the last entry that the
reader has read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from session_authority.store.key_names import TAGS

# The ID of a stream entry: milliseconds since the epoch, and a sequence number within that
# millisecond.
EntryId = tuple[int, int]
START: EntryId = (0, 0)
# No entry has this sequence number. An ID with this sequence number stands for a moment: the ID
# comes after all entries that were written up to the moment.
_MOMENT = 2**64 - 1


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A position in the log of events. For each stream, `entries` has the ID of the last entry
    before the position, or START if there is no entry before the position. If the stream could not
    be read, the ID stands for a moment.

    Events that were in the log at the time `as_of` come before the position. In three cases, some
    of the events that were in the log come after the position. The cases are: clocks differ, a
    stream could not be read, or the position was made from a moment that is older than the log.

    `memory` is how long the log kept an event at the time `as_of`. Events after the position may be
    trimmed when their age exceeds `memory`, even if the log keeps events for longer today.
    """

    entries: tuple[EntryId, ...]
    as_of: datetime
    memory: timedelta = timedelta.max


def behind_moment(ms: int) -> EntryId:
    """Returns an ID that stands for a moment, which is given in ms since the epoch. A position has
    the ID of a moment for a stream that could not be read.
    """
    return ms, _MOMENT


def is_moment(entry: EntryId) -> bool:
    """Returns True if this ID stands for a moment. Returns False for START and for the ID of an
    entry.
    """
    return entry[1] == _MOMENT


def entry_id(raw: bytes | str) -> EntryId:
    """Parses the ID of an entry from the text form that Redis uses."""
    text = raw.decode() if isinstance(raw, bytes) else raw
    ms, _, number = text.partition("-")
    return int(ms), int(number)


def entry_text(entry: EntryId) -> str:
    """Returns the ID of an entry in the text form that Redis uses."""
    return f"{entry[0]}-{entry[1]}"


def event_id(number: int, entry: EntryId) -> str:
    """Returns the ID of the event that has this entry in the stream of a partition. The ID contains
    no full stop, because a webhook's signature covers a text in which full stops separate the ID
    from other parts.
    """
    return f"evt_{TAGS[number]}_{entry[0]}_{entry[1]}"
