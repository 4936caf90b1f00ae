"""Page tokens of the device list: any text, real tokens with a change in one place, and any
position with a right digest.

A token that is read belongs only to that list, and is written again as the same text.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import cast

from session_authority.domain.devices import ListedDevice
from session_authority.domain.pages import list_scope, page_token, parse_page_token
from tests.fuzz.structure import changed, changes_at_the_end
from tests.fuzz.target import Target
from tests.tokens.harness import base64url

_SCOPE, _OTHER = list_scope("ada", False), list_scope("ada", True)


@dataclass(frozen=True)
class _Last:
    """The last device of a page, of which only the position counts."""

    moment: float
    key: bytes

    def sort_key(self) -> tuple[float, bytes]:
        """Its position."""
        return self.moment, self.key


def check(data: bytes) -> None:
    """Parses a text, or a position with its digest."""
    if data[:1] == b"\1":
        packed = data[1:]
        text = base64url(packed + hashlib.sha256(packed + _SCOPE).digest()[:8])
    elif data[:1] == b"\2":
        text = changed(_REAL, data[1:])
    else:
        text = data[1:].decode(errors="surrogateescape")
    place = parse_page_token(text, _SCOPE)
    if place is None:
        return
    moment, key = place
    assert len(key) == 16
    assert _written(moment, key, _SCOPE) == text, "not the only spelling"
    assert parse_page_token(text, _OTHER) is None, "a token of another list"


def _written(moment: float, key: bytes, scope: bytes) -> str:
    return page_token(cast("ListedDevice", _Last(moment, key)), scope)


_REAL = _written(-1.77e9, b"\xff\xfe" * 8, _SCOPE)
TARGET = Target(
    check,
    seeds=[
        *(
            b"\0" + _written(moment, bytes(range(16)), _SCOPE).encode()
            for moment in (0.0, -1.77e9, 0.1)
        ),
        b"\0" + _written(-1.77e9, bytes(16), _OTHER).encode(),
        *(b"\2" + change for change in changes_at_the_end(_REAL)),
        *(
            b"\1" + struct.pack(">Bd16s", 1, moment, bytes(range(16)))
            for moment in (0.0, -1.77e9, float("inf"))
        ),
    ],
    words=[b"=", b"-", b"_", b"+", b"/", b"\x7f\xf0", b"\xff\xf8"],
)
