"""Signs assertions for apps behind a gateway. An assertion is a short token about a session, and is
signed with the gateway's own signing key.

This module defines the JWT form of assertions (RFC 7519). This module also provides the public keys
with which apps verify assertions (RFC 7517). The package `gateway` decides which claims an
assertion has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from session_authority.domain.base64url import encode_base64url
from session_authority.tokens.encoding import encode_json
from session_authority.tokens.keyring import Keyring, KeySource
from session_authority.tokens.keys import Algorithm, KeyringError, KeyState


class AssertionSigner:
    """Signs assertions with the present signing key of a folder or file of keys. The constructor
    raises KeyringError if the key files are not valid, if there is no signing key, or if the
    signing key has no public part for apps.
    """

    def __init__(self, path: Path) -> None:
        self._source = KeySource(path, _check_public)
        _ = self._source.current.signing

    def refresh(self) -> str | None:
        """Reads the key files again if they changed. Returns the ID of the signing key, or None if
        the files did not change. Raises KeyringError or OSError if the files can't be read or are
        not valid.
        """
        return self._source.current.signing.kid if self._source.refresh() else None

    @property
    def version(self) -> int:
        """How often the keys changed since this object was made."""
        return self._source.version

    def sign(self, claims: Mapping[str, object]) -> str:
        """Returns the text of a signed assertion with these claims. Raises KeyringError if no key
        signs.
        """
        key = self._source.current.signing
        header = {"alg": key.algorithm.value, "kid": key.kid, "typ": "JWT"}
        signed = ".".join(encode_base64url(encode_json(part)) for part in (header, dict(claims)))
        return f"{signed}.{encode_base64url(key.sign(signed.encode()))}"

    def jwks(self) -> bytes:
        """Returns the public keys as the JSON text of a JWK set. The JWK set has all keys that are
        not revoked, except keys of HS256. The JWK set includes keys that signed earlier, and keys
        that do not sign yet.
        """
        return json.dumps({"keys": self._source.current.public_jwks()}).encode()


def _check_public(ring: Keyring) -> None:
    signing = [key for key in ring.keys if ring.state(key.kid) is KeyState.SIGNING]
    if any(key.algorithm is Algorithm.HS256 for key in signing):
        raise KeyringError("assertions need a key with a public part, such as one of ES256")
