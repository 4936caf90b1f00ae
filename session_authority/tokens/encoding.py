"""base64url and JSON, each accepted in one form only.

Owns the strictness that key files and tokens share: what this room reads must be exactly what some
writer meant, so padding, stray characters, unused bits, repeated members and `NaN` are errors and
never repaired.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import NoReturn


def encode_base64url(data: bytes) -> str:
    """Without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The bytes whose only encoding is `text`; raises ValueError if there are none."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The decoder skips foreign characters and ignores unused bits: many texts would stand for the
    # same bytes.
    if encode_base64url(data) != text:
        raise ValueError("not canonical base64url")
    return data


def encode_json(value: Mapping[str, object]) -> bytes:
    """As short as JSON gets."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def decode_json_object(data: bytes) -> dict[str, object]:
    """The object that UTF-8 JSON holds; raises ValueError, or RecursionError for one that is nested
    too deeply.
    """
    value: object = _DECODER.decode(data.decode())
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    """Parsers disagree on which of two members of one name counts (RFC 8259 §4); here neither
    does.
    """
    value = dict(members)
    if len(value) != len(members):
        raise ValueError("a member is repeated")
    return value


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
