"""Base64 for URLs without padding (RFC 7515 §2), read in one spelling only."""

from __future__ import annotations

import base64


def encode_base64url(data: bytes) -> str:
    """The text that stands for these bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The bytes whose only encoding is `text`. Raises ValueError if there are none."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The decoder skips foreign characters and ignores unused bits: many texts would stand for the
    # same bytes.
    if encode_base64url(data) != text:
        raise ValueError("not canonical base64url")
    return data
