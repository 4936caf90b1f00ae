"""Owns the headers that tell an app who its user is, and which headers of a client must not reach
an app.

An app trusts these headers, so all of them are always set, empty for the anonymous: what a client
sent under their names is overwritten. Values are visible ASCII: whatever else a user ID or a method
has is percent-encoded, as is "%" itself, so that no two users look the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC
from urllib.parse import quote

from session_authority_client import Session

Pairs = tuple[tuple[str, str], ...]

ASSERTION = "X-Session-Assertion"
IDENTITY_HEADERS = (
    "X-Session-User",
    "X-Session-Id",
    "X-Session-Device",
    "X-Session-Auth-Methods",
    "X-Session-Sign-In-Time",
    "X-Session-Claims",
    ASSERTION,
)
_OURS = "x-session-"
_NAMES = frozenset(name.lower() for name in IDENTITY_HEADERS)
# All that is visible in ASCII but "%".
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")

ANONYMOUS: Pairs = tuple((name, "") for name in IDENTITY_HEADERS)
"""The headers of a request that has no identity."""


def identity_headers(session: Session, assertion: str) -> Pairs:
    """The headers that tell of a session. An empty `assertion` is none."""
    values = (
        _visible(session.user_id),
        _visible(session.session_id),
        _visible(session.device_id),
        " ".join(map(_visible, session.auth_methods)),
        f"{session.sign_in_time.astimezone(UTC).replace(tzinfo=None).isoformat()}Z",
        json.dumps(dict(session.claims), separators=(",", ":"), sort_keys=True),
        assertion,
    )
    return tuple(zip(IDENTITY_HEADERS, values, strict=True))


def forged(names: Iterable[str]) -> list[str]:
    """The names of a client's headers that an app could read as identity, beside those that are
    overwritten. Many servers read `X_Session_User` as `X-Session-User`.
    """
    return sorted(
        [
            name
            for name in names
            if name[:1] in "xX"
            and name.lower().replace("_", "-").startswith(_OURS)
            and name.lower() not in _NAMES
        ]
    )


def _visible(text: str) -> str:
    return quote(text, safe=_PLAIN)
