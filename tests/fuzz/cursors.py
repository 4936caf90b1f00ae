"""Cursors of the event log: any text, real cursors with a change in one place, and any body with a
right checksum.

The first byte says how many streams the log has, and its two lowest bits say what follows. A cursor
that is read is a position of that log, and is written again as the same text.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

from session_authority.domain.errors import CursorExpired
from session_authority.events.cursors import MAX_CURSOR_CHARACTERS, cursor_of, parse_cursor
from session_authority.store.log_position import START, LogPosition
from tests.fuzz.structure import changed, changes_at_the_end
from tests.fuzz.target import Target
from tests.tokens.harness import base64url

_STREAMS = (1, 2, 3, 64)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_NOW_MS = int(_NOW.timestamp() * 1000)


def check(data: bytes) -> None:
    """Parses a text, or a body with its checksum."""
    if not data:
        return
    streams, rest = _STREAMS[data[0] >> 2 & 3], data[1:]
    match data[0] & 3:
        case 0:
            text = rest.decode(errors="surrogateescape")
        case 1:
            text = base64url(rest + hashlib.sha256(rest).digest()[:4])
        case _:
            text = changed(_real(streams), rest)
    try:
        position = parse_cursor(text, streams)
    except CursorExpired:  # Of another version.
        return
    if position is None:
        return
    assert cursor_of(position) == text, "not the only spelling"
    assert len(text) <= MAX_CURSOR_CHARACTERS
    assert len(position.entries) == streams
    assert position.as_of.tzinfo is UTC
    assert all(ms >= 0 and 0 <= number < 1 << 64 for ms, number in position.entries)
    assert [parse_cursor(text, other) for other in _STREAMS if other != streams] == [None] * 3


def _seeds() -> list[bytes]:
    seeds = []
    for number, streams in enumerate(_STREAMS):
        for entry in (START, (_NOW_MS, 0), (_NOW_MS - 86_400_000, 2**21), (1, 2**64 - 1)):
            text = cursor_of(LogPosition((entry,) * streams, _NOW))
            seeds.append(bytes([number << 2]) + text.encode())
            # The body: the cursor without its checksum.
            seeds.append(bytes([number << 2 | 1]) + _decoded(text)[:-4])
        seeds += [
            bytes([number << 2 | 2]) + change for change in changes_at_the_end(_real(streams))
        ]
    return seeds


def _real(streams: int) -> str:
    return cursor_of(LogPosition(((_NOW_MS - 86_400_000, 2**21),) * streams, _NOW))


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


TARGET = Target(
    check, _seeds(), words=[b"=", b"-", b"_", b"+", b"/", b"\xff" * 9 + b"\1", b"\x80\0"]
)
