"""Cursors: a cursor that was written is read again, and nothing else is read at all."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from session_authority.domain.base64url import encode_base64url
from session_authority.domain.errors import CursorExpired
from session_authority.events.cursors import MAX_CURSOR_CHARACTERS, cursor_of, parse_cursor
from session_authority.internal.v1.cursors_pb2 import EventCursor
from session_authority.store.log_position import START, EntryId, LogPosition

STREAMS = 64
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MS = 253402300799999  # In the year 9999.
MILLISECOND = timedelta(milliseconds=1)

entries = st.tuples(st.integers(0, LAST_MS), st.integers(0, 2**64 - 1)) | st.just(START)
moments = st.integers(0, LAST_MS).map(lambda ms: EPOCH + ms * MILLISECOND)
memories = st.integers(1, LAST_MS).map(lambda ms: ms * MILLISECOND) | st.just(timedelta.max)
positions = st.builds(
    LogPosition, st.lists(entries, min_size=3, max_size=3).map(tuple), moments, memories
)

# Positions as a store has them: all entries are of the last 30 days, and at worst many entries are
# of one millisecond.
usual_entries = st.tuples(
    st.integers(NOW_MS - 30 * 86_400_000, NOW_MS + 60_000), st.integers(0, 2**21 - 1)
)
usual_positions = st.lists(usual_entries, min_size=STREAMS, max_size=STREAMS).map(
    lambda some: LogPosition(tuple(some), NOW, timedelta(days=30))
)


@given(positions)
@example(LogPosition(((0, 0), (0, 1), (1, 0)), EPOCH))
@example(LogPosition(((LAST_MS, 2**64 - 1), (0, 2**64 - 1), START), EPOCH + LAST_MS * MILLISECOND))
@example(LogPosition((START,) * 3, EPOCH, LAST_MS * MILLISECOND))
def test_a_written_cursor_is_read_back(position: LogPosition):
    assert parse_cursor(cursor_of(position), 3) == position


@given(usual_positions)
@example(
    LogPosition(((NOW_MS - 30 * 86_400_000, 2**21 - 1),) * STREAMS, NOW + timedelta(minutes=1))
)
def test_a_cursor_of_64_streams_is_small(position: LogPosition):
    cursor = cursor_of(position)
    assert parse_cursor(cursor, STREAMS) == position
    assert len(cursor) < 1024
    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_most_positions_take_six_bytes():
    """A quiet log: at most one event a millisecond, over some days."""
    position = LogPosition(
        tuple((NOW_MS - number * 3_600_000, 0) for number in range(STREAMS)), NOW
    )
    assert len(cursor_of(position)) <= (64 * 6 + 25) * 4 // 3


def test_the_largest_possible_cursor_is_read():
    position = LogPosition(((1, 2**64 - 1),) * STREAMS, EPOCH + LAST_MS * MILLISECOND)
    assert len(cursor_of(position)) <= MAX_CURSOR_CHARACTERS
    assert parse_cursor(cursor_of(position), STREAMS) == position


@given(positions)
def test_a_log_with_other_streams_refuses_a_cursor(position: LogPosition):
    for streams in (0, 1, 2, 4, 64):
        assert parse_cursor(cursor_of(position), streams) is None


@given(usual_positions)
def test_every_cut_is_refused(position: LogPosition):
    cursor = cursor_of(position)
    for length in range(len(cursor)):
        assert parse_cursor(cursor[:length], STREAMS) is None
        assert length == 0 or parse_cursor(cursor[length:], STREAMS) is None


@given(usual_positions, st.data())
def test_every_mutation_is_refused(position: LogPosition, data: st.DataObject):
    cursor = cursor_of(position)
    at = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.characters(max_codepoint=127) | st.characters())
    assume(letter != cursor[at])
    assert parse_cursor(cursor[:at] + letter + cursor[at + 1 :], STREAMS) is None
    assert parse_cursor(cursor[:at] + letter + cursor[at:], STREAMS) is None
    assert parse_cursor(cursor[:at] + cursor[at + 1 :], STREAMS) is None


@given(positions, st.sampled_from(["=", "==", "====", " ", "\n", "A", "AAAA", "\0", ".", "é"]))
def test_only_one_spelling_is_read(position: LogPosition, more: str):
    cursor = cursor_of(position)
    assert parse_cursor(cursor + more, 3) is None
    assert parse_cursor(more + cursor, 3) is None
    standard = cursor.replace("-", "+").replace("_", "/")
    assert standard == cursor or parse_cursor(standard, 3) is None


def test_spare_bits_at_the_end_are_refused():
    """Base64 whose last letter has unused bits has several spellings."""
    seen = 0
    for number in range(1, 5):
        cursor = cursor_of(LogPosition(((NOW_MS, 7),) * number, NOW))
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
            if letter != cursor[-1]:
                seen += 1
                assert parse_cursor(cursor[:-1] + letter, number) is None
    assert seen


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")))
def test_an_invented_cursor_is_refused(text: str):
    assert parse_cursor(text, STREAMS) is None


def test_a_cursor_that_is_too_long_is_refused():
    """This holds even if the rest of the cursor is right."""
    streams = 1000
    cursor = cursor_of(LogPosition(((NOW_MS, 2**30),) * streams, NOW))
    assert len(cursor) > MAX_CURSOR_CHARACTERS
    assert parse_cursor(cursor, streams) is None


# --- with a right checksum: the forger knows the form ---------------------------------------------


def forged(
    latest: int = 0,
    age: int = 0,
    ages: Sequence[int] = (),
    numbers: Sequence[int] = (),
    *,
    version: int = 3,
    tail: bytes = b"",
) -> str:
    message = EventCursor(
        latest_ms=latest, age_ms=age, entry_ages_ms=ages, entry_numbers=numbers
    ).SerializeToString()
    return sealed(bytes([version]) + message + tail)


def sealed(body: bytes) -> str:
    return encode_base64url(body + hashlib.sha256(body).digest()[:4])


def test_the_forger_knows_the_form():
    entry: EntryId = (NOW_MS - 6, 3)
    assert parse_cursor(forged(NOW_MS, 0, [7, 0], [3, 0]), 2) == LogPosition((entry, START), NOW)


TOO_LARGE = b"\x80" * 9 + b"\x02"  # A number of 65 bits.


@pytest.mark.parametrize(
    "cursor",
    [
        forged(NOW_MS, 0, [7], [3]),
        forged(NOW_MS, 0, [7, 0, 0], [3, 0, 0]),
        forged(NOW_MS, 0, [7, 0], [3]),
        forged(NOW_MS, 0, [7], [3, 0]),
        forged(NOW_MS, 0, [7, 0]),
        forged(NOW_MS),
        forged(),
        forged(NOW_MS, 0, [7, 0], [3, 5]),  # The number of an entry that does not exist.
        forged(NOW_MS, NOW_MS + 1, [7, 0], [3, 0]),
        forged(NOW_MS, 5, [7, 0], [3, 0]),  # No entry has the latest time.
        forged(LAST_MS + 1, 0, [7, 0], [3, 0]),
        forged(NOW_MS, 0, [NOW_MS + 2, 0], [3, 0]),
        forged(NOW_MS, 0, [7, 0], [3, 0], tail=b"\x80"),
        forged(NOW_MS, 0, [7, 0], [3, 0], tail=b"\x30\x01"),  # An unknown field.
        forged(NOW_MS, 0, [7, 0], [3, 0], tail=b"\x28\x00"),  # A memory of 0.
        forged(NOW_MS, 0, [7, 0], [3, 0], tail=b"\x28" + b"\xff" * 9 + b"\x01"),
        forged(NOW_MS, 0, [7, 0], [3, 0], tail=b"\x10\x00"),  # An empty field.
        forged(NOW_MS, 0, [7, 0], [3, 0], tail=b"\x08\x07"),  # A field twice.
        forged(0, 0, [7, 0], [3, 0], tail=b"\x08" + TOO_LARGE),
        forged(tail=b"\xff" * 500),
    ],
    ids=str,
)
def test_a_cursor_with_an_impossible_position_is_refused(cursor: str):
    assert parse_cursor(cursor, 2) is None


@pytest.mark.parametrize("version", [0, 1, 2, 255])
def test_a_cursor_of_another_version_has_expired(version: int):
    """A watcher that resumes across an upgrade starts again, and gets no error about its cursor's
    form.
    """
    with pytest.raises(CursorExpired):
        parse_cursor(forged(NOW_MS, 0, [7, 0], [3, 0], version=version), 2)


@given(st.binary(max_size=40))
def test_no_forgery_makes_the_reader_fail(body: bytes):
    position = parse_cursor(sealed(b"\x03" + body), 3)
    assert position is None or len(position.entries) == 3
