"""Ways to corrupt a record in Redis. They are seeded, so that a failure can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from session_authority.domain.events import Event, EventType
from session_authority.store.codec import encode_device, encode_event, encode_session
from tests.store.samples import NOW, device, session

Corruption = Callable[[Random, bytes], bytes]

# About the length of a session record.
_LONGEST = 130


def random_bytes(random: Random, _: bytes) -> bytes:
    """Random bytes, independent of the record."""
    return random.randbytes(random.randrange(_LONGEST))


def random_of_its_length(random: Random, raw: bytes) -> bytes:
    """The first byte of the record, followed by random bytes up to the record's length."""
    return raw[:1] + random.randbytes(len(raw) - 1)


def truncated(random: Random, raw: bytes) -> bytes:
    """The beginning of the record."""
    return raw[: random.randrange(len(raw))]


def bit_flipped(random: Random, raw: bytes) -> bytes:
    """The record with one bit flipped."""
    changed = bytearray(raw)
    changed[random.randrange(len(raw))] ^= 1 << random.randrange(8)
    return bytes(changed)


def bits_flipped(random: Random, raw: bytes) -> bytes:
    """The record with up to 16 bits flipped."""
    for _ in range(random.randint(2, 16)):
        raw = bit_flipped(random, raw)
    return raw


def overwritten(random: Random, raw: bytes) -> bytes:
    """The record with a part of it overwritten."""
    start = random.randrange(len(raw))
    part = random.choice((bytes, random.randbytes, lambda size: b"\xff" * size))
    end = random.randint(start + 1, len(raw))
    return raw[:start] + part(end - start) + raw[end:]


def lengthened(random: Random, raw: bytes) -> bytes:
    """The record with random bytes inserted."""
    at = random.randint(0, len(raw))
    return raw[:at] + random.randbytes(random.randint(1, 8)) + raw[at:]


def of_a_later_version(random: Random, raw: bytes) -> bytes:
    """The record with another first byte, from 5 to 255. In most cases, this is a format of session
    records that no version uses so far.
    """
    return bytes([random.randrange(5, 256)]) + raw[1:]


def alien(random: Random, _: bytes) -> bytes:
    """A value that is no such record, as if other code had written it."""
    return random.choice(
        (
            b"",
            b"1",
            b'{"session": "ada"}',
            b"\x80\x04\x95" + random.randbytes(20),
            bytes(59),
            bytes(61),
            bytes(62),
            b"\xff" * 61,
            encode_device(device(7)),
            encode_session(session(7))[:-1],
            encode_event(Event(EventType.ALL_REVOKED, NOW, "eve", "shop")),
        )
    )


CORRUPTIONS: tuple[Corruption, ...] = (
    random_bytes,
    random_of_its_length,
    truncated,
    bit_flipped,
    bits_flipped,
    overwritten,
    lengthened,
    of_a_later_version,
    alien,
)
