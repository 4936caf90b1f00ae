"""Decodes JSON by strict rules, and encodes JSON without white space.

Key files and tokens are decoded by the same strict rules. A JSON text must have exactly one
meaning, so repeated members and `NaN` are errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn


def encode_json(value: Mapping[str, object]) -> bytes:
    """Encodes an object as JSON in UTF-8, without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def decode_json_object(data: bytes) -> dict[str, object]:
    """Decodes a JSON object in UTF-8. Raises ValueError if the data is not a JSON object in UTF-8
    or breaks a strict rule. Raises RecursionError if the object is nested too deeply.
    """
    value: object = _DECODER.decode(data.decode())
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    """Returns the members of a JSON object as a dictionary. Raises ValueError if a name is
    repeated, because JSON parsers differ in which of the repeated members they use (RFC 8259 §4).
    """
    value = dict(members)
    if len(value) != len(members):
        raise ValueError("a member is repeated")
    return value


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
