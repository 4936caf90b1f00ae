"""Cuts the device list into pages, and makes page tokens: texts that say where the next page
starts.

A page token is opaque to callers. A page token holds a version, the position in the list, and a
digest of the position and of the list's identity. So a page token that was changed or cut, or that
belongs to another list, is refused. Anyone can compute the digest, as the digest has no key. A
forged page token does no harm, because a page token only selects a page of a list that the caller
may read anyway.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence

from session_authority.domain.base64url import decode_base64url, encode_base64url
from session_authority.domain.devices import ListedDevice

# The largest size of a page in bytes. Clients of gRPC accept answers of at most 4 MiB by default.
# The limit is far below 4 MiB, because the sizes of the devices are only approximate.
MAX_PAGE_BYTES = 1024 * 1024
_VERSION = 1
_FORM = struct.Struct(">Bd16s8s")  # version, sort key of the last device (time, key), digest


def first_page(
    devices: Sequence[ListedDevice], size: int, bytes_of: Callable[[ListedDevice], int]
) -> tuple[ListedDevice, ...]:
    """Returns the first devices of a list: at most `size` devices, which have at most
    MAX_PAGE_BYTES together. If the first device alone is larger, the page has only this device. The
    page is empty if the list is empty.

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
    """Makes the token of the page that follows the device `last`. `scope` is the result of
    `list_scope` for the list.
    """
    moment, key = last.sort_key()
    return encode_base64url(_FORM.pack(_VERSION, moment, key, _digest(moment, key, scope)))


def parse_page_token(text: str, scope: bytes) -> tuple[float, bytes] | None:
    """Returns the sort key after which the page starts. Returns None if the text is not a page
    token of the list that `scope` identifies.
    """
    try:
        version, moment, key, digest = _FORM.unpack(decode_base64url(text))
    except (struct.error, ValueError):
        return None
    if version != _VERSION or digest != _digest(moment, key, scope):
        return None
    return moment, key


def list_scope(user_id: str, include_signed_out: bool) -> bytes:
    """Returns the bytes that identify a list of devices. Page tokens contain a digest of these
    bytes.
    """
    return hashlib.sha256(f"{int(include_signed_out)}:{user_id}".encode()).digest()


def _digest(moment: float, key: bytes, scope: bytes) -> bytes:
    return hashlib.sha256(struct.pack(">Bd16s", _VERSION, moment, key) + scope).digest()[:8]
