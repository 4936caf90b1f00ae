"""Reads device IDs in the forms that the service accepts: the usual form (RFC 9562), the form
without dashes, the form in braces, and the URN. Spaces, tabs and line breaks around an ID are
ignored.
"""

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
    """Returns the device ID that a text contains, in the usual form: 36 characters in lower case.
    Returns an empty text if the text is no device ID, or is the nil UUID.
    """
    # Nearly all device IDs already have the usual form. A device ID in the usual form need not be
    # parsed.
    if _CANONICAL.fullmatch(text) is not None:
        return "" if text == _NIL else text
    if _SPELLED.fullmatch(text) is None:
        return ""
    value = UUID(text.strip(" \t\r\n").lower())
    return str(value) if value.int else ""
