"""Cuts the device list into pages, and makes the token that says where the next page starts.

A page token is opaque and versioned. It holds a digest of the request that it continues, so a token
that is forged, cut, or from another user's list is refused. The token is no secret and protects
nothing: it only selects a page of a list that the caller may read anyway.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence

from session_authority.domain.base64url import decode_base64url, encode_base64url
from session_authority.domain.devices import ListedDevice

# Clients of gRPC accept answers of 4 MiB, unless they are set to accept more.
MAX_PAGE_BYTES = 1024 * 1024
_VERSION = 1
_FORM = struct.Struct(">Bd16s8s")  # version, sort key of the last device (time, key), digest


def first_page(
    devices: Sequence[ListedDevice], size: int, bytes_of: Callable[[ListedDevice], int]
) -> tuple[ListedDevice, ...]:
    """The first devices of a list: from one to `size` devices, as many as fit into an answer."""
    held = 0
    for number, device in enumerate(devices[:size]):
        held += bytes_of(device)
        if held > MAX_PAGE_BYTES and number:
            return tuple(devices[:number])
    return tuple(devices[:size])


def page_token(last: ListedDevice, scope: bytes) -> str:
    """The token of the page that follows the device `last` in the list named `scope`."""
    moment, key = last.sort_key()
    return encode_base64url(_FORM.pack(_VERSION, moment, key, _digest(moment, key, scope)))


def parse_page_token(text: str, scope: bytes) -> tuple[float, bytes] | None:
    """The sort key after which the page starts. None if the token does not belong to this list."""
    try:
        version, moment, key, digest = _FORM.unpack(decode_base64url(text))
    except (struct.error, ValueError):
        return None
    if version != _VERSION or digest != _digest(moment, key, scope):
        return None
    return moment, key


def list_scope(user_id: str, include_signed_out: bool) -> bytes:
    """The text that identifies a list, for the digest in its page tokens."""
    return hashlib.sha256(f"{int(include_signed_out)}:{user_id}".encode()).digest()


def _digest(moment: float, key: bytes, scope: bytes) -> bytes:
    return hashlib.sha256(struct.pack(">Bd16s", _VERSION, moment, key) + scope).digest()[:8]
