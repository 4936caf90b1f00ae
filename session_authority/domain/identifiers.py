"""Device IDs and device keys."""

from __future__ import annotations

import hashlib
import re
from uuid import UUID

DEVICE_KEY_BYTES = 16
_UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_NIL = UUID(int=0)


def parse_uuid(text: str) -> UUID | None:
    """The UUID that `text` spells in the usual form of 36 characters (RFC 9562), or None. The nil
    UUID names nothing.
    """
    if _UUID_TEXT.fullmatch(text) is None:
        return None
    value = UUID(text)
    return None if value == _NIL else value


def device_key(device_id: UUID) -> bytes:
    """What tokens and the store call a device: the first 16 bytes of SHA-256 of the UUID's
    16 bytes.

    A token so gives no device ID away, and a stolen token is not enough to make a request.
    """
    return hashlib.sha256(device_id.bytes).digest()[:DEVICE_KEY_BYTES]
