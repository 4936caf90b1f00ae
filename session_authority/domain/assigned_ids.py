"""Makes the device IDs that a validation assigns to a request without one, and recognizes them.

A client should keep such an ID for its next sign-in. Some clients send it at once, together with a
token of another device. Such a request is denied, but it must raise no alarm, as the service itself
assigned the ID. An assigned ID looks random, and only this module recognizes it. The mark in the ID
is no secret: a client that forges such an ID only avoids the alarm. A client that sends no device
ID avoids the alarm, too.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

RANDOM_BYTES = 12


def assign_device_id(random: bytes) -> UUID:
    """Makes a new device ID from 12 random bytes. The ID has the form of a random UUID (RFC 9562
    §5.4) and 90 random bits.
    """
    form = bytearray(random)
    form[6] = 0x40 | form[6] & 0x0F
    form[8] = 0x80 | form[8] & 0x3F
    head = bytes(form)
    return UUID(bytes=head + _mark(head))


def is_assigned(device_id: UUID) -> bool:
    """Returns True if a validation assigned the ID. Of the other IDs, one in four billion is
    mistaken for an assigned ID.
    """
    return _mark(device_id.bytes[:RANDOM_BYTES]) == device_id.bytes[RANDOM_BYTES:]


def _mark(head: bytes) -> bytes:
    return hashlib.sha256(b"assigned device ID" + head).digest()[:4]
