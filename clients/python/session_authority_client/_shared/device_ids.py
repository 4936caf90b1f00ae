"""Reads device IDs in every form in which UUID libraries write them."""

from __future__ import annotations

import re
from uuid import UUID

_USUAL = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NIL = str(UUID(int=0))
_SPELLED = re.compile(
    rf"[ \t\r\n]*(?:{_USUAL}|[0-9a-fA-F]{{32}}|\{{{_USUAL}\}}|urn:uuid:{_USUAL})[ \t\r\n]*",
    re.ASCII | re.IGNORECASE,
)


def canonical_device_id(text: str) -> str:
    """Returns the device ID that a text stands for, in the usual form with 36 characters in lower
    case. Returns an empty text if this text is no device ID. The nil UUID is no device ID.
    """
    # Nearly all device IDs have this form already, so they need not be parsed.
    if _CANONICAL.fullmatch(text) is not None:
        return "" if text == _NIL else text
    if _SPELLED.fullmatch(text) is None:
        return ""
    value = UUID(text.strip(" \t\r\n").lower())
    return str(value) if value.int else ""
