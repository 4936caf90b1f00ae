"""Device IDs that a validation assigns to a request without one, and how they are known again.

A client should keep such an ID for its next sign-in. A client that sends it beside a token of
another device is denied, and must raise no alarm, whenever it does so: the service made that pair
itself. Such an ID looks random, and this room alone knows it again. The mark is no secret: a client
that makes such an ID up only spares itself the alarm, as a client without any device ID does.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

RANDOM_BYTES = 12


def assign_device_id(random: bytes) -> UUID:
    """A fresh device ID, from 12 random bytes. It has the form of a random UUID (RFC 9562 §5.4) and
    90 random bits.
    """
    form = bytearray(random)
    form[6] = 0x40 | form[6] & 0x0F
    form[8] = 0x80 | form[8] & 0x3F
    head = bytes(form)
    return UUID(bytes=head + _mark(head))


def is_assigned(device_id: UUID) -> bool:
    """Returns True if a validation assigned the ID. Of four billion other IDs, one is taken for
    such.
    """
    return _mark(device_id.bytes[:RANDOM_BYTES]) == device_id.bytes[RANDOM_BYTES:]


def _mark(head: bytes) -> bytes:
    return hashlib.sha256(b"assigned device ID" + head).digest()[:4]
