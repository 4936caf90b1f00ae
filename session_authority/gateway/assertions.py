"""Makes assertions. An assertion is a signed token about a session, for one app. An assertion is
valid for a minute. Because the app can check the signature, the app need not trust the network.

The gateway caches one assertion for each session and app, and sends it with each request of the
session to the app. The gateway signs a new assertion when half of the lifetime of the cached
assertion is over. The gateway also signs a new assertion when the session or the keys have changed.
An assertion names the session, and proves nothing about the request. An assertion does not contain
the client's access token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from session_authority.gateway.routes import Route
from session_authority_client import Session

LIFETIME_SECONDS = 60
# An assertion is sent only if it is still valid for this long, because requests may wait in queues,
# and the clocks of machines differ.
_LEAST_LEFT_SECONDS = 30
# At most this many assertions are cached. Each cached assertion occupies about 2 KB of memory.
_MAX_KEPT = 10_000


class CannotSign(Exception):
    """No key can sign an assertion at present."""


class Signer(Protocol):
    """Signs assertions. `version` changes when the keys change."""

    @property
    def version(self) -> int:
        """Counts how often the keys have changed."""

    def sign(self, claims: Mapping[str, object]) -> str:
        """Signs a token with these claims, and returns its text. Raises CannotSign if no key can
        sign.
        """


class _Kept(NamedTuple):
    session: Session
    version: int
    text: str
    until: float


class Assertions:
    """Makes the assertions of one issuer. If a route names no app, its requests get no assertion,
    because the assertion would have no audience. `clock` returns seconds since the Unix epoch.
    """

    def __init__(self, signer: Signer, issuer: str, clock: Callable[[], float] = time.time) -> None:
        self._signer = signer
        self._issuer = issuer
        self._clock = clock
        self._kept: LRUCache[tuple[str, str], _Kept] = LRUCache(_MAX_KEPT)

    def __call__(self, session: Session, route: Route) -> str:
        """Returns the assertion of a session for the app of a route. The text is empty if the route
        names no app. Raises CannotSign if no key can sign.
        """
        if not route.audience:
            return ""
        key, now = (session.session_id, route.audience), self._clock()
        kept = self._kept.get(key)
        if (
            kept is None
            or not kept.until - LIFETIME_SECONDS <= now < kept.until
            or kept.version != self._signer.version
            or (kept.session is not session and kept.session != session)
        ):
            text = self._signer.sign(self._claims(session, route.audience, int(now)))
            until = now + LIFETIME_SECONDS - _LEAST_LEFT_SECONDS
            kept = self._kept[key] = _Kept(session, self._signer.version, text, until)
        return kept.text

    def _claims(self, session: Session, audience: str, now: int) -> dict[str, object]:
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": audience,
            "sub": session.user_id,
            "sid": session.session_id,
            "device": session.device_id,
            "amr": list(session.auth_methods),
            "auth_time": int(session.sign_in_time.timestamp()),
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        }
        if session.claims:
            claims["claims"] = dict(session.claims)
        return claims
