"""Where in the log of events somebody is: the last entry that was read of each stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from session_authority.store.key_names import TAGS

# An entry's ID: milliseconds since the epoch, and a number within that millisecond.
EntryId = tuple[int, int]
START: EntryId = (0, 0)
# No entry has this number. It stands for a moment: behind all that happened by then.
_MOMENT = 2**64 - 1


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A position in the log: `entries` has the last entry of each stream, START if none was there,
    or what stands for a moment if the stream could not be read.

    `as_of` is when it was so: nothing that was there by then, give or take the clocks, comes after
    the position. `memory` is how long the log kept an event then: what follows the position may be
    trimmed after that time, even if events are kept for longer today.
    """

    entries: tuple[EntryId, ...]
    as_of: datetime
    memory: timedelta = timedelta.max


def behind_moment(ms: int) -> EntryId:
    """Stands for the last entry of a stream until then, where nobody knows which entry that was."""
    return ms, _MOMENT


def is_moment(entry: EntryId) -> bool:
    """Returns True if this stands for a moment, and is no entry."""
    return entry[1] == _MOMENT


def entry_id(raw: bytes | str) -> EntryId:
    """An entry's ID as Redis writes it."""
    text = raw.decode() if isinstance(raw, bytes) else raw
    ms, _, number = text.partition("-")
    return int(ms), int(number)


def entry_text(entry: EntryId) -> str:
    """An entry's ID as Redis reads it."""
    return f"{entry[0]}-{entry[1]}"


def event_id(number: int, entry: EntryId) -> str:
    """The ID of the event in an entry of a partition: no full stop, as signatures of webhooks join
    parts with those.
    """
    return f"evt_{TAGS[number]}_{entry[0]}_{entry[1]}"
