"""Cursors: what is written is read again, and nothing else is read at all."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from session_authority.domain.cursors import (
    MAX_CURSOR,
    START,
    EntryId,
    Place,
    cursor_of,
    parse_cursor,
)

STREAMS = 64
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MS = 253402300799999  # in the year 9999
MILLISECOND = timedelta(milliseconds=1)

entries = st.tuples(st.integers(0, LAST_MS), st.integers(0, 2**64 - 1)) | st.just(START)
moments = st.integers(0, LAST_MS).map(lambda ms: EPOCH + ms * MILLISECOND)
places = st.builds(Place, st.lists(entries, min_size=3, max_size=3).map(tuple), moments)

# As they are in a store: all of the last weeks, many in one millisecond at worst.
usual_entries = st.tuples(
    st.integers(NOW_MS - 30 * 86_400_000, NOW_MS + 60_000), st.integers(0, 2**21 - 1)
)
usual_places = st.lists(usual_entries, min_size=STREAMS, max_size=STREAMS).map(
    lambda some: Place(tuple(some), NOW)
)


@given(places)
@example(Place(((0, 0), (0, 1), (1, 0)), EPOCH))
@example(Place(((LAST_MS, 2**64 - 1), (0, 2**64 - 1), START), EPOCH + LAST_MS * MILLISECOND))
def test_what_is_written_is_read(place: Place):
    assert parse_cursor(cursor_of(place), 3) == place


@given(usual_places)
@example(Place(((NOW_MS - 30 * 86_400_000, 2**21 - 1),) * STREAMS, NOW + timedelta(minutes=1)))
def test_64_streams_stay_small(place: Place):
    cursor = cursor_of(place)
    assert parse_cursor(cursor, STREAMS) == place
    assert len(cursor) < 1024
    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_most_entries_take_five_bytes():
    """A quiet log: one event a millisecond at most, over some days."""
    place = Place(tuple((NOW_MS - number * 3_600_000, 0) for number in range(STREAMS)), NOW)
    assert len(cursor_of(place)) <= (64 * 5 + 20) * 4 // 3


def test_the_largest_that_there_can_be_is_read():
    place = Place(((1, 2**64 - 1),) * STREAMS, EPOCH + LAST_MS * MILLISECOND)
    assert len(cursor_of(place)) <= MAX_CURSOR
    assert parse_cursor(cursor_of(place), STREAMS) == place


@given(places)
def test_a_log_of_other_streams_refuses_it(place: Place):
    for streams in (0, 1, 2, 4, 64):
        assert parse_cursor(cursor_of(place), streams) is None


@settings(deadline=None)  # one example is hundreds of cuts
@given(usual_places)
def test_every_cut_is_refused(place: Place):
    cursor = cursor_of(place)
    for length in range(len(cursor)):
        assert parse_cursor(cursor[:length], STREAMS) is None
        assert length == 0 or parse_cursor(cursor[length:], STREAMS) is None


@given(usual_places, st.data())
def test_every_mutation_is_refused(place: Place, data: st.DataObject):
    cursor = cursor_of(place)
    at = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.characters(max_codepoint=127) | st.characters())
    assume(letter != cursor[at])
    assert parse_cursor(cursor[:at] + letter + cursor[at + 1 :], STREAMS) is None
    assert parse_cursor(cursor[:at] + letter + cursor[at:], STREAMS) is None
    assert parse_cursor(cursor[:at] + cursor[at + 1 :], STREAMS) is None


@given(places, st.sampled_from(["=", "==", "====", " ", "\n", "A", "AAAA", "\0", ".", "é"]))
def test_only_one_spelling_is_read(place: Place, more: str):
    cursor = cursor_of(place)
    assert parse_cursor(cursor + more, 3) is None
    assert parse_cursor(more + cursor, 3) is None
    standard = cursor.replace("-", "+").replace("_", "/")
    assert standard == cursor or parse_cursor(standard, 3) is None


def test_spare_bits_at_the_end_are_refused():
    """Base64 whose last letter has bits to spare has several spellings."""
    seen = 0
    for number in range(1, 5):
        cursor = cursor_of(Place(((NOW_MS, 7),) * number, NOW))
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
            if letter != cursor[-1]:
                seen += 1
                assert parse_cursor(cursor[:-1] + letter, number) is None
    assert seen


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")))
def test_what_is_made_up_is_refused(text: str):
    assert parse_cursor(text, STREAMS) is None


def test_what_is_too_long_is_refused():
    """However right it is otherwise."""
    streams = 1000
    cursor = cursor_of(Place(((NOW_MS, 2**30),) * streams, NOW))
    assert len(cursor) > MAX_CURSOR
    assert parse_cursor(cursor, streams) is None


# --- with a checksum that fits: who makes these knows how -----------------------------------------


def forged(*numbers: int, version: int = 1, tail: bytes = b"") -> str:
    body = bytearray([version])
    for number in numbers:
        while number >= 0x80:
            body.append(number & 0x7F | 0x80)
            number >>= 7
        body.append(number)
    body += tail
    checksum = hashlib.sha256(body).digest()[:4]
    return base64.urlsafe_b64encode(bytes(body) + checksum).decode().rstrip("=")


def test_the_forger_knows_the_form():
    entry: EntryId = (NOW_MS - 6, 3)
    assert parse_cursor(forged(NOW_MS, 0, 2, 7, 3, 0), 2) == Place((entry, START), NOW)


@pytest.mark.parametrize(
    "cursor",
    [
        forged(NOW_MS, 0, 2, 7, 3, 0, version=0),
        forged(NOW_MS, 0, 2, 7, 3, 0, version=2),
        forged(NOW_MS, 0, 1, 7, 3),
        forged(NOW_MS, 0, 3, 7, 3, 0, 0),
        forged(NOW_MS, 0, 2, 7, 3),
        forged(NOW_MS, 0, 2, 7),
        forged(NOW_MS, 0, 2),
        forged(NOW_MS, 0),
        forged(NOW_MS),
        forged(),
        forged(NOW_MS, 0, 2, 7, 3, 0, 0),
        forged(NOW_MS, NOW_MS + 1, 2, 7, 3, 0),
        forged(NOW_MS, 5, 2, 7, 3, 0),  # none of them is the latest
        forged(LAST_MS + 1, 0, 2, 7, 3, 0),
        forged(NOW_MS, 0, 2, NOW_MS + 2, 3, 0),
        forged(NOW_MS, 0, 2, 7, 2**64, 0),
        forged(NOW_MS, 0, 2, 7, 2**200, 0),
        forged(2**64 + NOW_MS, 0, 2, 7, 3, 0),
        forged(NOW_MS, 0, 2, 7, 3, 0, tail=b"\x80"),
        forged(NOW_MS, 0, 2, 7, 3, tail=b"\x80"),
        forged(tail=b"\xff" * 500),
        base64.urlsafe_b64encode(hashlib.sha256(b"").digest()[:4]).decode().rstrip("="),
    ],
    ids=str,
)
def test_what_fits_no_place_is_refused(cursor: str):
    assert parse_cursor(cursor, 2) is None


@given(st.binary(max_size=40))
def test_no_forgery_breaks_it(body: bytes):
    checksum = hashlib.sha256(b"\x01" + body).digest()[:4]
    place = parse_cursor(
        base64.urlsafe_b64encode(b"\x01" + body + checksum).decode().rstrip("="), 3
    )
    assert place is None or len(place.entries) == 3
