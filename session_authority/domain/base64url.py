"""Encodes and decodes base64url without padding (RFC 7515 §2). Only one encoding of each value is
accepted.
"""

from __future__ import annotations

import base64
from binascii import a2b_base64

# Translates the letters of base64url to the letters of base64. Padding, and the two letters of
# base64 that base64url does not have, become invalid.
_PLAIN_LETTERS = bytes.maketrans(b"-_+/=", b"+/!!!")
# The rules for the end of a text, by the number of letters after the last whole group of four. Each
# rule has the missing padding, and the allowed last letters, whose unused bits are 0. None allows
# every letter.
_ENDS = {
    0: (b"", None),
    2: (b"==", frozenset(b"AQgw")),
    3: (b"=", frozenset(b"AEIMQUYcgkosw048")),
}


def encode_base64url(data: bytes) -> str:
    """Encodes bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Decodes base64url without padding. Raises ValueError if the text is not the canonical
    encoding of any bytes.
    """
    letters = text.encode("ascii")
    padding, last = _ENDS.get(len(letters) % 4, (b"", frozenset()))
    if last is not None and letters[-1] not in last:
        raise ValueError("not canonical base64url")
    return a2b_base64(letters.translate(_PLAIN_LETTERS) + padding, strict_mode=True)
