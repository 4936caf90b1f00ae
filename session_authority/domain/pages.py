"""Cuts the device list into pages, and makes the token that says where the next page starts.

A page token is opaque and versioned. It holds a digest of the list and of the position in the list,
so a token that was changed or cut, or that belongs to another list, is refused. Anyone can compute
the digest, as it has no key. But the token protects nothing: it only selects a page of a list that
the caller may read anyway.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence

from session_authority.domain.base64url import decode_base64url, encode_base64url
from session_authority.domain.devices import ListedDevice

# This is far below 4 MiB, the largest answer that clients of gRPC accept by default. The sizes of
# the devices are only approximate.
MAX_PAGE_BYTES = 1024 * 1024
_VERSION = 1
_FORM = struct.Struct(">Bd16s8s")  # version, sort key of the last device (time, key), digest


def first_page(
    devices: Sequence[ListedDevice], size: int, bytes_of: Callable[[ListedDevice], int]
) -> tuple[ListedDevice, ...]:
    """Returns the first devices of a list: at most `size`, and only as many as fit into an answer.
    The first device is always on the page. The page is empty if the list is empty.

    Args:
        devices: The list from the start of the page on.
        size: The largest number of devices on the page.
        bytes_of: Returns the approximate size of a device in an answer, in bytes.
    """
    held = 0
    for number, device in enumerate(devices[:size]):
        held += bytes_of(device)
        if held > MAX_PAGE_BYTES and number:
            return tuple(devices[:number])
    return tuple(devices[:size])


def page_token(last: ListedDevice, scope: bytes) -> str:
    """Makes the token of the page that follows the device `last`. `scope` identifies the list, as
    `list_scope` returns it.
    """
    moment, key = last.sort_key()
    return encode_base64url(_FORM.pack(_VERSION, moment, key, _digest(moment, key, scope)))


def parse_page_token(text: str, scope: bytes) -> tuple[float, bytes] | None:
    """Returns the sort key after which the page starts. None if the text is no page token, or is
    the page token of another list.
    """
    try:
        version, moment, key, digest = _FORM.unpack(decode_base64url(text))
    except (struct.error, ValueError):
        return None
    if version != _VERSION or digest != _digest(moment, key, scope):
        return None
    return moment, key


def list_scope(user_id: str, include_signed_out: bool) -> bytes:
    """Returns the bytes that identify a list, for the digest in its page tokens."""
    return hashlib.sha256(f"{int(include_signed_out)}:{user_id}".encode()).digest()


def _digest(moment: float, key: bytes, scope: bytes) -> bytes:
    return hashlib.sha256(struct.pack(">Bd16s", _VERSION, moment, key) + scope).digest()[:8]
