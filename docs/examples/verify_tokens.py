"""Verifies access tokens without asking the service for each: see docs/offline.md.

    AUTHORITY=127.0.0.1:50051 python docs/examples/verify_tokens.py < file-of-one-token

Needs PyJWT with `cryptography`, and the Python client.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import jwt

from session_authority_client import SessionAuthority

AUTHORITY = os.environ.get("AUTHORITY", "127.0.0.1:50051")
ISSUER = os.environ.get("ISSUER", "session-authority")
AUDIENCE = os.environ.get("AUDIENCE", "session-authority")
# A key that was revoked goes on verifying here for so long.
KEYS_LAST_SECONDS = 60
# The least time between two questions for a key that is not known: anybody can make one up.
PAUSE_SECONDS = 5
LEEWAY_SECONDS = 30


class Verifier:
    """Verifies tokens with the public keys of the service, which it asks for now and then."""

    def __init__(self, authority: SessionAuthority) -> None:
        self._authority = authority
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = float("-inf")

    def verify(self, token: str) -> dict[str, Any]:
        """Returns the claims of the token. Raises jwt.InvalidTokenError."""
        header = jwt.get_unverified_header(token)
        if header.get("typ") != "at+jwt":
            raise jwt.InvalidTokenError("this is no access token")
        key = self._key(str(header.get("kid")))
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],  # the key says which one, never the token
            issuer=ISSUER,
            audience=AUDIENCE,
            leeway=LEEWAY_SECONDS,
            options={"require": ["iss", "aud", "sub", "iat", "exp", "sid", "dk", "gen", "jti"]},
        )
        return claims

    def _key(self, kid: str) -> jwt.PyJWK:
        age = time.monotonic() - self._read_at
        if age > KEYS_LAST_SECONDS or (kid not in self._keys and age > PAUSE_SECONDS):
            keys = json.loads(self._authority.get_signing_keys().jwks_json)["keys"]
            self._keys = {key["kid"]: jwt.PyJWK(key) for key in keys}
            self._read_at = time.monotonic()
        if kid not in self._keys:
            raise jwt.InvalidTokenError("no key of the service signed this token")
        return self._keys[kid]


def main() -> None:
    """Prints the claims of the token on standard input, or why it is none."""
    with SessionAuthority(AUTHORITY) as authority:
        try:
            claims = Verifier(authority).verify(sys.stdin.read().strip())
        except jwt.InvalidTokenError as error:
            sys.exit(f"not verified: {error}")
    json.dump(claims, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
