"""Reads device IDs, and makes device keys from them."""

from __future__ import annotations

import hashlib
import re
from uuid import UUID

DEVICE_KEY_BYTES = 16
_USUAL = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
# Matches the spellings that UUID libraries write, and no others. Python's class `UUID` accepts more
# spellings: it ignores dashes and "urn:uuid:" anywhere, and any number of braces at both ends.
_UUID_TEXT = re.compile(
    rf"{_USUAL}|[0-9a-fA-F]{{32}}|\{{{_USUAL}\}}|[uU][rR][nN]:[uU][uU][iI][dD]:{_USUAL}", re.ASCII
)
_BLANKS = " \t\r\n"
_NIL = UUID(int=0)


def parse_uuid(text: str) -> UUID | None:
    """Returns the UUID in the text. Returns None if the text is not a UUID, or is the nil UUID,
    which identifies nothing.

    The text may have the usual form of 36 characters (RFC 9562), or have no dashes, or be in
    braces, or be a URN. The letters may be upper or lower case. Blanks around the UUID are ignored.
    """
    spelled = text.strip(_BLANKS)
    if _UUID_TEXT.fullmatch(spelled) is None:
        return None
    value = UUID(spelled.lower())  # `UUID` accepts "urn:uuid:" in lower case only
    return None if value == _NIL else value


def device_key(device_id: UUID) -> bytes:
    """Returns the device key of a device ID: the first 16 bytes of the SHA-256 of the UUID's 16
    bytes.

    Tokens and the store identify a device by its device key. So a token does not reveal the device
    ID. A stolen token alone can't make a request, because a request also needs the device ID.
    """
    return hashlib.sha256(device_id.bytes).digest()[:DEVICE_KEY_BYTES]
