"""What the tests of tokens use: keys that one line describes, key folders, and a forger's tools.

The forger encodes by itself and not with the room's own functions, so that it can also encode
wrongly.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from session_authority.domain.sessions import Token
from session_authority.tokens import Algorithm, KeySource, SigningKey, Tokens, generate

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
LIFETIME = 7 * DAY + HOUR + 30 * SECOND
ISSUER, AUDIENCE = "https://sessions.example", "example"


@cache
def material(algorithm: Algorithm, name: str = "") -> SigningKey:
    """A key of this algorithm and this name. It is made once, and all tests share it."""
    return generate(algorithm, NOW - 30 * DAY)


def key_named(
    kid: str,
    promoted: datetime | None = None,
    revoked: datetime | None = None,
    algorithm: Algorithm = Algorithm.HS256,
) -> SigningKey:
    """A key with this name and this life."""
    return replace(material(algorithm, kid), kid=kid, promoted_at=promoted, revoked_at=revoked)


def save(directory: Path, *keys: SigningKey) -> Path:
    """Writes key files."""
    directory.mkdir(exist_ok=True)
    for key in keys:
        (directory / f"{key.kid}.json").write_text(json.dumps(key.to_json()))
    return directory


def tokens_of(directory: Path, issuer: str = ISSUER, audience: str = AUDIENCE) -> Tokens:
    """The `Tokens` of a key folder."""
    return Tokens(KeySource(directory), issuer, audience, LIFETIME)


TOKEN = Token(
    user_id="user-42",
    device_key=bytes(range(16)),
    session_id=bytes(range(0xF0, 0x100)),
    generation=3,
    copy=0x00AB,
    issued_at=NOW,
    expires_at=NOW + HOUR,
    signed_in_at=NOW - DAY,
    claims={"tenant": "acme", "Ünï": "☃"},
    auth_methods=("pwd", "otp"),
)
# The claims of TOKEN, written by hand.
PAYLOAD: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "user-42",
    "dk": "AAECAwQFBgcICQoLDA0ODw",
    "sid": "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
    "gen": 3,
    "jti": "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff.3.00ab",
    "iat": 1772366400,
    "exp": 1772370000,
    "auth_time": 1772280000,
    "amr": ["pwd", "otp"],
    "tenant": "acme",
    "Ünï": "☃",
}


def header_of(key: SigningKey) -> dict[str, Any]:
    """The header of a token that is signed with this key."""
    return {"alg": key.algorithm.value, "kid": key.kid, "typ": "at+jwt"}


def base64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def compact(
    header: Mapping[str, Any] | bytes,
    payload: Mapping[str, Any] | bytes,
    sign: Callable[[bytes], bytes],
) -> str:
    """A JWS of any header and payload, signed by any key."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)
    ]
    signed = ".".join(base64url(part) for part in parts)
    return f"{signed}.{base64url(sign(signed.encode()))}"
