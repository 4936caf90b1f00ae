"""Key files: whatever a folder of keys may contain.

A file is refused, or it is a key. An error lists every fault, and quotes no key material. A key is
written as it was read.
"""

from __future__ import annotations

import json

from session_authority.tokens import Algorithm, KeyringError
from session_authority.tokens.encoding import decode_json_object
from session_authority.tokens.keys import parse_key
from tests.fuzz.structure import change_a_value
from tests.fuzz.target import Target
from tests.tokens.harness import NOW, key_named

_SEEDS = [key_named(algorithm.value, NOW, algorithm=algorithm).to_json() for algorithm in Algorithm]
_PRIVATE = ("d", "k", "p", "q", "dp", "dq", "qi")


def check(data: bytes) -> None:
    """Parses a key."""
    try:
        value = decode_json_object(data)
    except (ValueError, RecursionError):
        return
    try:
        key = parse_key(value, "file")
    except KeyringError as error:
        jwk = value.get("jwk")
        secrets = [jwk.get(name) for name in _PRIVATE] if isinstance(jwk, dict) else []
        told = str(error)
        assert not [
            text for text in secrets if isinstance(text, str) and len(text) > 16 and text in told
        ], "it quotes a key"
        assert all(fault.startswith("file: ") for fault in error.faults)
        return
    assert key.to_json()["jwk"] == value["jwk"], "not the only spelling"
    assert parse_key(json.loads(json.dumps(key.to_json())), "file") == key
    assert key.verify(b"data", key.sign(b"data"))


TARGET = Target(
    check,
    seeds=[json.dumps(seed).encode() for seed in _SEEDS],
    words=[
        *(json.dumps(name).encode() for seed in _SEEDS for name in [*seed, *dict(seed["jwk"])]),  # type: ignore[call-overload]
        *(
            b'"OKP"',
            b'"EC"',
            b'"RSA"',
            b'"oct"',
            b'"P-256"',
            b'"Ed25519"',
            b'"HS256"',
            b'"AQAB"',
            b"9999",
            b"+00:00",
        ),
    ],
    mutate=change_a_value,
)
