"""Encodes and decodes Base64 for URLs without padding (RFC 7515 §2). Each value has only one
accepted spelling.
"""

from __future__ import annotations

import base64
from binascii import a2b_base64

# Translates the letters of base64url to those of base64. Padding, and the two letters that only
# base64 has, become invalid.
_PLAIN_LETTERS = bytes.maketrans(b"-_+/=", b"+/!!!")
# The key is the number of letters after the last whole group of four. The value has the padding,
# and the letters with which the text may end: letters whose unused bits are 0. None allows every
# letter.
_ENDS = {
    0: (b"", None),
    2: (b"==", frozenset(b"AQgw")),
    3: (b"=", frozenset(b"AEIMQUYcgkosw048")),
}


def encode_base64url(data: bytes) -> str:
    """Encodes bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Decodes base64url without padding. Raises ValueError unless the text is the canonical
    encoding of some bytes.
    """
    letters = text.encode("ascii")
    padding, last = _ENDS.get(len(letters) % 4, (b"", frozenset()))
    if last is not None and letters[-1] not in last:
        raise ValueError("not canonical base64url")
    return a2b_base64(letters.translate(_PLAIN_LETTERS) + padding, strict_mode=True)
