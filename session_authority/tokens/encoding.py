"""JSON, accepted in one form only.

Owns the strictness that key files and tokens share: what this room reads must be exactly what some
writer meant, so repeated members and `NaN` are errors and never repaired.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn


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
