"""Makes the device IDs that a validation assigns to requests without a device ID, and recognizes
these IDs in later requests.

A client should keep an assigned ID for its next sign-in. Some clients send the assigned ID earlier,
together with a token of another device. A request with an assigned ID and a token of another device
is denied without an alarm, because the service itself assigned the ID.

An assigned ID looks random, but its last 4 bytes are a hash of its first 12 bytes. The hash in the
ID is no secret: a client that forges an assigned ID only avoids the alarm. A client that sends no
device ID avoids the alarm, too.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

RANDOM_BYTES = 12


def assign_device_id(random: bytes) -> UUID:
    """Makes a new device ID from 12 random bytes. The ID has the form of a random UUID (RFC 9562
    §5.4), and has 90 random bits.
    """
    form = bytearray(random)
    form[6] = 0x40 | form[6] & 0x0F
    form[8] = 0x80 | form[8] & 0x3F
    head = bytes(form)
    return UUID(bytes=head + _mark(head))


def is_assigned(device_id: UUID) -> bool:
    """Returns True if a validation assigned the ID. Also returns True for one in four billion other
    IDs.
    """
    return _mark(device_id.bytes[:RANDOM_BYTES]) == device_id.bytes[RANDOM_BYTES:]


def _mark(head: bytes) -> bytes:
    return hashlib.sha256(b"assigned device ID" + head).digest()[:4]
