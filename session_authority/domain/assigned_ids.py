"""Device IDs that the service assigns to requests without one, and how it knows them again.

A client should keep such an ID for its next sign-in. A client that sends it beside a token of
another device is denied, and must raise no alarm: the service made that pair itself. Such an ID
looks random, and says to this room alone for which session and when it was made. It is no secret:
a client that makes one up only spares itself the alarm, as a client without any device ID does.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from uuid import UUID

from session_authority.domain.moments import from_seconds, to_seconds
from session_authority.domain.sessions import Token

SEED_BYTES = 8
# The version and the variant of a random UUID (RFC 9562 §5.4): the two bytes that hold them keep
# nothing else.
_VERSION, _VARIANT = 0x40, 0x80
_HIDDEN_SECONDS, _CHECK = slice(9, 13), slice(13, 16)
# The time is kept in four bytes.
_MAX_SECONDS = 0xFFFFFFFF
_NO_SESSION = b""


def assign_device_id(seed: bytes, session_id: bytes | None, now: datetime) -> UUID:
    """A fresh device ID, from random bytes, for a request of this session, or of none that is
    known.
    """
    mask, check = _mask_and_check(seed, session_id or _NO_SESSION)
    hidden = (mask ^ to_seconds(now) & _MAX_SECONDS).to_bytes(4)
    head = seed[:6] + bytes([_VERSION | seed[6] & 0x0F, seed[7]])
    return UUID(bytes=head + bytes([_VARIANT | seed[6] >> 4]) + hidden + check)


def is_assigned(device_id: UUID, token: Token) -> bool:
    """Returns True if the ID was assigned to a request of the token's session, or to one without a
    token, after this token was made.

    The second is a client whose device ID got lost and that did not send its token at first. An
    older ID belongs to a browser that was there before: a token that turns up there has left its
    device.
    """
    raw = device_id.bytes
    seed = _seed_of(raw)
    if _mask_and_check(seed, token.session_id)[1] == raw[_CHECK]:
        return True
    mask, check = _mask_and_check(seed, _NO_SESSION)
    assigned_at = from_seconds(mask ^ int.from_bytes(raw[_HIDDEN_SECONDS]))
    return check == raw[_CHECK] and assigned_at >= token.issued_at


def _seed_of(raw: bytes) -> bytes:
    """The random bytes: the four bits that the version took are beside the variant."""
    return raw[:6] + bytes([(raw[8] & 0x0F) << 4 | raw[6] & 0x0F, raw[7]])


def _mask_and_check(seed: bytes, session_id: bytes) -> tuple[int, bytes]:
    """What hides the time of assignment, and what proves for which session it was."""
    digest = hashlib.sha256(b"assigned device ID" + seed + session_id).digest()
    return int.from_bytes(digest[:4]), digest[4:7]
