"""Reads JSON by strict rules, and writes JSON in its shortest form.

Key files and tokens share the strict rules. A text must have exactly one meaning, so repeated
members and `NaN` are errors and are never repaired.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn


def encode_json(value: Mapping[str, object]) -> bytes:
    """Encodes an object as JSON in UTF-8, without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def decode_json_object(data: bytes) -> dict[str, object]:
    """Decodes a JSON object in UTF-8. Raises ValueError if the text breaks a rule, and
    RecursionError if it is nested too deeply.
    """
    value: object = _DECODER.decode(data.decode())
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    """Builds an object from its members. Raises ValueError if a name is repeated, because parsers
    disagree about which of these members is valid (RFC 8259 §4).
    """
    value = dict(members)
    if len(value) != len(members):
        raise ValueError("a member is repeated")
    return value


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
