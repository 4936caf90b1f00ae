"""Cursors of the event log: how far in it somebody has come.

The log is 64 streams, and a place in it is the ID of the last entry that was read of each. A cursor
is that in a compact form, opaque and versioned, with a checksum so that one that was cut or made up
is refused. It is no secret and guards nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# An entry's ID: milliseconds since the epoch, and a number within that millisecond.
EntryId = tuple[int, int]
START: EntryId = (0, 0)

MAX_CURSOR = 4096
_VERSION = 1
_CHECKSUM_BYTES = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LARGEST = 1 << 64
# Later years have no datetime.
_LAST_MS = 253402300799999


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the log: `entries` has the last entry of each stream, START if none was there.

    `as_of` is when it was so: nothing that was there by then, give or take the clocks, comes after
    the place.
    """

    entries: tuple[EntryId, ...]
    as_of: datetime


def cursor_of(place: Place) -> str:
    """The place as URL-safe text: most entries take 5 bytes, as they are told by how long before
    the latest they were.
    """
    as_of = (place.as_of - _EPOCH) // _MILLISECOND
    latest = max([as_of, *(ms for ms, _ in place.entries)])
    body = bytearray([_VERSION])
    _put(body, latest)
    _put(body, latest - as_of)
    _put(body, len(place.entries))
    for entry in place.entries:
        if entry == START:
            _put(body, 0)
        else:
            _put(body, latest - entry[0] + 1)
            _put(body, entry[1])
    return base64.urlsafe_b64encode(bytes(body) + _checksum(body)).decode().rstrip("=")


def parse_cursor(text: str, streams: int) -> Place | None:
    """The place that a cursor names in a log of so many streams, or None if it is none."""
    if len(text) > MAX_CURSOR:
        return None
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    body, checksum = packed[:-_CHECKSUM_BYTES], packed[-_CHECKSUM_BYTES:]
    if checksum != _checksum(body):
        return None
    try:
        place = _place(body, streams)
    except (IndexError, StopIteration, ValueError):
        return None
    # Decoding is lenient: only the one spelling that was handed out counts.
    return place if place is not None and cursor_of(place) == text else None


def _place(body: bytes, streams: int) -> Place | None:
    if body[0] != _VERSION:
        return None
    numbers = iter(_numbers(body[1:]))
    latest, age, count = next(numbers), next(numbers), next(numbers)
    if count != streams or not 0 <= latest - age <= latest <= _LAST_MS:
        return None
    entries = []
    for _ in range(streams):
        before = next(numbers)
        entries.append(START if before == 0 else (latest - before + 1, next(numbers)))
    if any(ms < 0 for ms, _ in entries) or next(numbers, None) is not None:
        return None
    return Place(tuple(entries), _EPOCH + (latest - age) * _MILLISECOND)


def _put(body: bytearray, number: int) -> None:
    """Appends a number, seven bits a byte, the lowest first."""
    while number >= 0x80:
        body.append(number & 0x7F | 0x80)
        number >>= 7
    body.append(number)


def _numbers(body: bytes) -> list[int]:
    """What `_put` wrote. Raises ValueError if it ends within a number, or one is too large."""
    numbers, number, shift = [], 0, 0
    for byte in body:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
        elif shift > 63:
            raise ValueError("too large")
    if shift or any(number >= _LARGEST for number in numbers):
        raise ValueError("cut, or too large")
    return numbers


def _checksum(body: bytes | bytearray) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]
