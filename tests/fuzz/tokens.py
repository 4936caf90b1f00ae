"""Verifying tokens: any text, real tokens with a change in one place, and any text that a real key
signed.

The first byte says what follows:

- 0: a text, which is verified unchanged
- 1 to 127: a header and a payload, which one of the keys signs
- 128 to 255: a change of a real token (position, number of removed characters, inserted text)

If a text or a changed token is accepted, it must be a token that the service signed. An accepted
token has only one spelling. If its content is signed again, the result must be read as the same
token.
"""

from __future__ import annotations

import base64
import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from session_authority.domain.sessions import Token
from session_authority.tokens import MAX_TOKEN_BYTES, Algorithm, SigningKey, TokenTooLarge
from tests.fuzz.structure import change_a_value, changed, changes_at_the_end
from tests.fuzz.target import Target
from tests.tokens.harness import (
    AUDIENCE,
    ISSUER,
    NOW,
    PAYLOAD,
    TOKEN,
    base64url,
    compact,
    header_of,
    key_named,
    save,
    tokens_of,
)

# The same keys in every process, so that the inputs of one run are useful to the next run.
_EDDSA, _ES256 = (
    Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
    derive_private_key(2**200 + 7, SECP256R1()),
)
_KEYS = [
    SigningKey("HS256", Algorithm.HS256, NOW, None, None, bytes(range(32)), bytes(range(32))),
    SigningKey("EdDSA", Algorithm.EDDSA, NOW, NOW, None, _EDDSA, _EDDSA.public_key()),
    SigningKey("ES256", Algorithm.ES256, NOW, None, None, _ES256, _ES256.public_key()),
]
_STRANGER = replace(key_named("stranger"), kid="HS256")
with tempfile.TemporaryDirectory() as folder:
    _TOKENS = tokens_of(save(Path(folder) / "keys", *_KEYS))
# Without ES256: its signatures differ each time.
_REAL = [*(compact(header_of(key), PAYLOAD, key.sign) for key in _KEYS[:2]), _TOKENS.sign(TOKEN)]
# A first byte from here on announces a change. The rest of the byte selects the real token.
_CHANGE = 0x80
_SIGNED = {text.rpartition(".")[0] for text in _REAL}


def check(data: bytes) -> None:
    """Verifies a text, or a signed payload."""
    number, rest = data[0] if data else 0, data[1:]
    if number == 0 or number >= _CHANGE:
        real = _REAL[(number - _CHANGE) % len(_REAL)]
        text = changed(real, rest) if number else rest.decode(errors="surrogateescape")
        assert _verified(text) is None or text.rpartition(".")[0] in _SIGNED, (
            "what nobody signed is a token"
        )
        return
    header, _, payload = rest.partition(b"\0")
    key = _KEYS[number % len(_KEYS)]
    token = _verified(compact(header, payload, key.sign))
    assert _verified(compact(header, payload, _STRANGER.sign)) is None, "a stranger's token"
    if token is not None:
        _check_accepted(header, payload, token)


def _verified(text: str) -> Token | None:
    token = _TOKENS.verify(text, NOW)
    if token is not None:
        assert _TOKENS.verify(text, NOW) == token, "it is remembered as something else"
        parts = text.split(".")
        assert len(text) <= MAX_TOKEN_BYTES
        assert [base64url(base64.urlsafe_b64decode(part + "==")) for part in parts] == parts, (
            "not the only spelling"
        )
    return token


def _check_accepted(header: bytes, payload: bytes, token: Token) -> None:
    """Checks that another JSON reader finds the same values in the token, and that the token stays
    the same if it is signed again.
    """
    head, claims = (json.loads(part, object_pairs_hook=_unambiguous) for part in (header, payload))
    assert head.keys() == {"alg", "kid", "typ"}
    assert (head["typ"], claims["iss"], claims["aud"]) == ("at+jwt", ISSUER, AUDIENCE)
    assert all(type(claims[name]) is int for name in ("gen", "iat", "exp", "auth_time"))
    assert claims["iat"] <= claims["exp"]
    session_id, generation, copy = claims["jti"].split(".")
    assert (claims["sub"], claims["sid"], claims["gen"]) == (
        token.user_id,
        token.session_id.hex(),
        token.generation,
    )
    assert (session_id, int(generation), int(copy, 16)) == (
        claims["sid"],
        token.generation,
        token.copy,
    )
    assert all(claims[name] == value for name, value in token.claims.items())
    with suppress(TokenTooLarge):
        assert _TOKENS.verify(_TOKENS.sign(token), NOW) == token, "signed again, it differs"


def _unambiguous(members: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in members}) == len(members), "readers disagree on what it says"
    return dict(members)


_SIGNING = [
    bytes([number + len(_KEYS)])
    + json.dumps(header_of(key)).encode()
    + b"\0"
    + json.dumps(PAYLOAD).encode()
    for number, key in enumerate(_KEYS)
]
_DEEP = b"\3" + json.dumps(header_of(_KEYS[0])).encode() + b"\0" + b"[" * 1500
_CHANGES = [
    bytes([_CHANGE + number]) + change
    for number, text in enumerate(_REAL)
    for change in changes_at_the_end(text)
]
_WORDS = [
    name.encode()
    for name in [
        *PAYLOAD,
        *"nbf alg kid typ crit b64 jwk jku x5c scope at+jwt none EdDSA ES256".split(),
    ]
]
_WORDS += b"1e400 NaN Infinity null true 4294967296 -1 1.0 .1.0001".split()
_WORDS += b"\\u0000 \\ud800 { } [ ] : , . =".split()
TARGET = Target(
    check,
    seeds=[*(b"\0" + text.encode() for text in _REAL), *_SIGNING, *_CHANGES, _DEEP],
    words=_WORDS,
    mutate=change_a_value,
)
