"""Makes the identity headers for apps, and lists the client headers that must not reach an app.

An app trusts the identity headers. So the gateway sets all identity headers in each request that
goes on to the app. The identity headers overwrite headers of the same names from the client. All
identity headers are empty if nobody is signed in. The identity headers are also empty on a route
that disables sessions, and for a CORS preflight that a route passes on. The header for the
assertion is also empty if the app gets no assertion.

The values of the identity headers are ASCII. In IDs and in names of sign-in methods, all characters
except visible ASCII are percent-encoded. "%" is encoded, too, so that different IDs always have
different encoded forms. A space separates two methods. The header for the claims contains JSON.
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
# These characters are not percent-encoded: all visible ASCII characters except "%".
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")

# The identity headers of at most this many session objects are cached. The near cache gives the
# same object to all requests of a session.
_MAX_KEPT_SESSIONS = 4096

ANONYMOUS: Pairs = tuple((name, "") for name in IDENTITY_HEADERS)
"""The identity headers of a request without an identity: all of them are empty."""


class IdentityHeaders:
    """Makes the identity headers of sessions, and caches them for each session object."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Session, Pairs]] = {}

    def of(self, session: Session, assertion: str) -> Pairs:
        """Returns the identity headers of a session. An empty `assertion` stands for no
        assertion.
        """
        found = self._kept.get(id(session))
        # While the cache holds a session object, no other object has the same `id()`.
        if found is not None and found[0] is session:
            pairs = found[1]
        else:
            pairs = _headers_of(session)
            if len(self._kept) >= _MAX_KEPT_SESSIONS:
                self._kept.clear()
            self._kept[id(session)] = (session, pairs)
        return (*pairs, (ASSERTION, assertion))


def _headers_of(session: Session) -> Pairs:
    """Returns all identity headers except the assertion."""
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
    """Returns the names of client headers that an app could mistake for identity headers.

    Many servers read `X_Session_User` as `X-Session-User`, and PHP also reads `X.Session.User` as
    `X-Session-User`. So the result has each name that such a server reads as a name with the prefix
    `X-Session-`. The exact names of the identity headers are not in the result, because the gateway
    overwrites these headers.
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
