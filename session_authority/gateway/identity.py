"""Owns the identity headers for apps, and the list of client headers that must not reach an app.

An app trusts these headers. So all of them are always set, and empty without a session: headers of
these names from a client are overwritten. Values are visible ASCII. Other characters of a user ID
or a method are percent-encoded, and so is "%", so that no two users look the same.
"""

from __future__ import annotations

import json
import re
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
_NO_ALPHANUMERIC = re.compile("[^a-z0-9]")
_NAMES = frozenset(name.lower() for name in IDENTITY_HEADERS)
# All that is visible in ASCII but "%".
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")

# The near cache gives each request of a session the same object.
_MAX_KEPT_SESSIONS = 4096

ANONYMOUS: Pairs = tuple((name, "") for name in IDENTITY_HEADERS)
"""The identity headers of a request without an identity."""


class IdentityHeaders:
    """Makes the identity headers of a session. Keeps them while the session is the same object."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Session, Pairs]] = {}

    def of(self, session: Session, assertion: str) -> Pairs:
        """The headers. An empty `assertion` is none."""
        found = self._kept.get(id(session))
        # As long as the session is kept here, no other object has its ID.
        if found is not None and found[0] is session:
            pairs = found[1]
        else:
            pairs = _headers_of(session)
            if len(self._kept) >= _MAX_KEPT_SESSIONS:
                self._kept.clear()
            self._kept[id(session)] = (session, pairs)
        return (*pairs, (ASSERTION, assertion))


def _headers_of(session: Session) -> Pairs:
    """All identity headers except the assertion."""
    values = (
        _visible(session.user_id),
        _visible(session.session_id),
        _visible(session.device_id),
        " ".join(map(_visible, session.auth_methods)),
        f"{session.sign_in_time.astimezone(UTC).replace(tzinfo=None).isoformat()}Z",
        json.dumps(dict(session.claims), separators=(",", ":"), sort_keys=True),
    )
    return tuple(zip(IDENTITY_HEADERS[:-1], values, strict=True))


def forged(names: Iterable[str]) -> list[str]:
    """The names of a client's headers that an app could read as identity, without the names that
    are overwritten. Many servers read `X_Session_User` as `X-Session-User`, and PHP also reads
    `X.Session.User` so.
    """
    return sorted(
        [
            name
            for name in names
            if name[:1] in "xX"
            and _NO_ALPHANUMERIC.sub("-", name.lower()).startswith(_OURS)
            and name.lower() not in _NAMES
        ]
    )


def _visible(text: str) -> str:
    return quote(text, safe=_PLAIN)
