"""Writes and reads the cursors of the event log. A cursor is the position that a watcher has
reached, as opaque text.

A cursor contains a version, an `EventCursor` message and a checksum. If a client has cut or
invented a cursor, the checksum is wrong, and the service refuses the cursor. A cursor is not a
secret, and gives no permissions.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from google.protobuf.message import DecodeError

from session_authority.domain.base64url import decode_base64url, encode_base64url
from session_authority.domain.errors import CursorExpired
from session_authority.domain.moments import LAST_MS, MILLISECOND, from_ms, to_ms
from session_authority.internal.v1.cursors_pb2 import EventCursor
from session_authority.store.log_position import START, EntryId, LogPosition

MAX_CURSOR_CHARACTERS = 4096
_VERSION = b"\x03"
_CHECKSUM_BYTES = 4


def cursor_of(position: LogPosition) -> str:
    """Returns the cursor for a position, as URL-safe text."""
    as_of = to_ms(position.as_of)
    latest = max([as_of, *(ms for ms, _ in position.entries)])
    message = EventCursor(
        latest_ms=latest,
        age_ms=latest - as_of,
        entry_ages_ms=[0 if e == START else latest - e[0] + 1 for e in position.entries],
        entry_numbers=[number for _, number in position.entries],
        memory_ms=0 if position.memory == timedelta.max else position.memory // MILLISECOND,
    )
    body = _VERSION + message.SerializeToString(deterministic=True)
    return encode_base64url(body + _checksum(body))


def parse_cursor(text: str, streams: int) -> LogPosition | None:
    """Returns the position that a cursor names. `streams` is the number of streams in the log.
    Returns None if the text is not a valid cursor.

    Raises CursorExpired if the cursor has another version of the format than `_VERSION`.
    """
    if len(text) > MAX_CURSOR_CHARACTERS:
        return None
    try:
        packed = decode_base64url(text)
        body, checksum = packed[:-_CHECKSUM_BYTES], packed[-_CHECKSUM_BYTES:]
        if checksum != _checksum(body):
            return None
        if body[:1] != _VERSION:
            raise CursorExpired
        position = _position(EventCursor.FromString(body[1:]), streams)
    except (ValueError, DecodeError):
        return None
    # Several encodings in protobuf decode to the same message. Only the encoding that the service
    # itself writes is valid.
    return position if position is not None and cursor_of(position) == text else None


def _position(message: EventCursor, streams: int) -> LogPosition | None:
    ages, numbers = message.entry_ages_ms, message.entry_numbers
    latest, age = message.latest_ms, message.age_ms
    if len(ages) != streams or len(numbers) != streams or not age <= latest <= LAST_MS:
        return None
    if message.memory_ms > LAST_MS:
        return None
    if any(age > latest + 1 for age in ages):
        return None
    entries: tuple[EntryId, ...] = tuple(
        START if age == 0 else (latest - age + 1, number)
        for age, number in zip(ages, numbers, strict=True)
    )
    memory = message.memory_ms * MILLISECOND if message.memory_ms else timedelta.max
    return LogPosition(entries, from_ms(latest - age), memory)


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]
