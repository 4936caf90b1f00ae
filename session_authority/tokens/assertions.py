"""Short tokens about a session, for apps behind a gateway, signed by a key of the gateway's own.

Owns their JWT form (RFC 7519) and the public keys that apps verify them with (RFC 7517). What they
say is for the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from session_authority.domain.base64url import encode_base64url
from session_authority.tokens.encoding import encode_json
from session_authority.tokens.keyring import KeySource
from session_authority.tokens.keys import Algorithm, KeyringError


class AssertionSigner:
    """Signs with the key that signs now. Raises KeyringError if there is none, or if its public
    part can't be shown to apps.
    """

    def __init__(self, source: KeySource) -> None:
        self._source = source
        if source.current.signing.algorithm is Algorithm.HS256:
            raise KeyringError("assertions need a key with a public part, such as one of ES256")

    @property
    def version(self) -> int:
        """Counts how often the keys changed."""
        return self._source.version

    def sign(self, claims: Mapping[str, object]) -> str:
        """The text of a token with these claims. Raises KeyringError if no key signs."""
        key = self._source.current.signing
        header = {"alg": key.algorithm.value, "kid": key.kid, "typ": "JWT"}
        signed = ".".join(encode_base64url(encode_json(part)) for part in (header, dict(claims)))
        return f"{signed}.{encode_base64url(key.sign(signed.encode()))}"

    def jwks(self) -> bytes:
        """The JSON text of the set of public keys, those that signed before included."""
        return json.dumps({"keys": self._source.current.public_jwks()}).encode()
