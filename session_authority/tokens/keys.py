"""Defines a signing key: how a key is made, how a key signs and verifies, and the JSON form of a
key in a file.

This module refuses keys that are not valid or are too weak. Only this module uses PyJWT's
algorithms. Each key has exactly one algorithm. Other modules get private key material only from
`SigningKey.to_json`. No error message and no repr contains private key material.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key

from session_authority.domain.base64url import encode_base64url
from session_authority.tokens.encoding import encode_json

RSA_BITS = 3072
MIN_RSA_BITS = 2048
# The signature of a longer key would leave too little space for the rest of a token, which may have
# 4 KiB.
MAX_RSA_BITS = 4096
# The size of a new HMAC key, and the smallest accepted size. RFC 7518 §3.2 requires that an HMAC
# key is at least as long as the output of its hash function.
HMAC_BYTES = 32
# The smallest number of different bytes in an HMAC key. This minimum refuses keys like
# "changemechangeme...", which has only 7 different bytes. A random key of 32 bytes has fewer than 8
# different bytes with a probability of 1 in 10^37. For a random key of 64 hexadecimal digits, the
# probability of fewer than 8 different digits is 1 in 10^19. A limit of 16 would refuse a quarter
# of all random keys of 64 hexadecimal digits, though these keys are good.
MIN_DIFFERENT_BYTES = 8

# A key ID is used as a file name and as an argument of a command. So a key ID must not look like an
# option or a hidden file.
_KID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}", re.ASCII)
_MAX_SHOWN_NAME_CHARACTERS = 16
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00)", re.ASCII)
_TIMES = ("created", "promoted", "revoked")

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey | bytes
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey | bytes


class KeyringError(Exception):
    """Raised if keys can't be used, or if a change of keys is refused. The message names every
    fault, and never contains key material.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Algorithm(Enum):
    """The signature algorithm of a key. The values are the algorithm names of RFC 7518 and RFC
    8037.
    """

    EDDSA = "EdDSA"
    ES256 = "ES256"
    RS256 = "RS256"
    HS256 = "HS256"


class KeyState(Enum):
    """The state of a key. A PUBLISHED key has not signed yet. The SIGNING key signs new tokens. A
    VERIFYING key signed earlier, and now only verifies. The tokens of a REVOKED key are void.
    """

    PUBLISHED = "published"
    SIGNING = "signing"
    VERIFYING = "verifying"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class _JwkForm:
    """The members that a private JWK of one algorithm must have. `kind` has the members that state
    the kind of the key, with their values. `public` and `private` have the names of the other
    members.
    """

    kind: Mapping[str, str]
    public: tuple[str, ...]
    private: tuple[str, ...]


_JWK_FORMS = {
    Algorithm.EDDSA: _JwkForm({"kty": "OKP", "crv": "Ed25519"}, ("x",), ("d",)),
    Algorithm.ES256: _JwkForm({"kty": "EC", "crv": "P-256"}, ("x", "y"), ("d",)),
    Algorithm.RS256: _JwkForm({"kty": "RSA"}, ("n", "e"), ("d", "p", "q", "dp", "dq", "qi")),
    Algorithm.HS256: _JwkForm({"kty": "oct"}, (), ("k",)),
}
# This module uses PyJWT's algorithms, but not PyJWT's functions `encode` and `decode`. These
# functions would decode a token and prepare a key a second time, by less strict rules than ours,
# and would need 40 to 50 µs more. The algorithms are not taken from PyJWT's global registry,
# because any code may change that registry.
_JWS = jwt.PyJWS(algorithms=[algorithm.value for algorithm in Algorithm])
_SIGNERS = {algorithm: _JWS.get_algorithm_by_name(algorithm.value) for algorithm in Algorithm}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key, with the times at which the key was created, promoted and revoked. The state of the
    key follows from these times and from the other keys of its keyring. `private` and `public` are
    the key objects that sign and verify.

    Two keys are equal if their IDs, algorithms and times are equal. The key material is not
    compared.
    """

    kid: str
    algorithm: Algorithm
    created_at: datetime
    promoted_at: datetime | None
    revoked_at: datetime | None
    private: PrivateKey = field(repr=False, compare=False)
    public: PublicKey = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """Returns the signature of `data`, in the form that JWS requires."""
        return _SIGNERS[self.algorithm].sign(data, self.private)

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Returns True if `signature` was made from `data` with this key and the algorithm of this
        key.
        """
        return _SIGNERS[self.algorithm].verify(data, self.public, signature)

    def public_jwk(self) -> dict[str, str] | None:
        """Returns the public key as a JWK, with which other services verify tokens (RFC 7517).
        Returns None if the key is a shared secret.
        """
        if self.algorithm is Algorithm.HS256:
            return None
        form = _JWK_FORMS[self.algorithm]
        jwk = _export(self.algorithm, self.private)
        public = {name: jwk[name] for name in (*form.kind, *form.public)}
        return {**public, "kid": self.kid, "alg": self.algorithm.value, "use": "sig"}

    def to_json(self) -> dict[str, object]:
        """Returns the contents of the key's file, **with the private part**."""
        times = dict(zip(_TIMES, (self.created_at, self.promoted_at, self.revoked_at), strict=True))
        return {
            "kid": self.kid,
            "alg": self.algorithm.value,
            **{name: format_time(time) for name, time in times.items() if time is not None},
            "jwk": _export(self.algorithm, self.private),
        }


def generate(algorithm: Algorithm, now: datetime) -> SigningKey:
    """Makes a new key, which is not promoted yet."""
    while True:
        private = _generate_private(algorithm)
        kid = _name(algorithm, private)
        if _KID.fullmatch(kid):  # one random ID in 64 starts with '-', which is not allowed
            return SigningKey(kid, algorithm, now, None, None, private, _public(private))


def _generate_private(algorithm: Algorithm) -> PrivateKey:
    match algorithm:
        case Algorithm.EDDSA:
            return Ed25519PrivateKey.generate()
        case Algorithm.ES256:
            return generate_private_key(SECP256R1())
        case Algorithm.RS256:
            return generate_rsa_key(public_exponent=65537, key_size=RSA_BITS)
        case Algorithm.HS256:
            return secrets.token_bytes(HMAC_BYTES)


def _public(private: PrivateKey) -> PublicKey:
    return private if isinstance(private, bytes) else private.public_key()


def _export(algorithm: Algorithm, private: PrivateKey) -> dict[str, str]:
    form = _JWK_FORMS[algorithm]
    jwk = _SIGNERS[algorithm].to_jwk(private, as_dict=True)
    return {name: jwk[name] for name in (*form.kind, *form.public, *form.private)}


def _name(algorithm: Algorithm, private: PrivateKey) -> str:
    """Returns the ID of a new key: the thumbprint of its public key (RFC 7638 §3). An HMAC key gets
    a random ID, because a weak secret could be guessed from its thumbprint.
    """
    if isinstance(private, bytes):
        return encode_base64url(secrets.token_bytes(16))
    form, jwk = _JWK_FORMS[algorithm], _export(algorithm, private)
    named = {name: jwk[name] for name in sorted((*form.kind, *form.public))}
    return encode_base64url(hashlib.sha256(encode_json(named)).digest())


def parse_key(value: object, where: str) -> SigningKey:
    """Returns the key that a JSON value from a key file describes. If the value is not valid,
    raises KeyringError with all faults of the value, but only with the first fault of its member
    `jwk`. The text of each fault starts with `where`.
    """
    if not isinstance(value, dict):
        raise KeyringError(f"{where}: a key must be a JSON object")
    members: dict[str, Any] = value
    faults = [
        f"{_shown(name)} is not a member of a key"
        for name in sorted(members.keys() - {"kid", "alg", "jwk", *_TIMES})
    ]
    kid = _parse_kid(members.get("kid"))
    if kid is None:
        faults.append("kid must be 1 to 128 letters, digits, '_' or '-', and not start with '-'")
    created, promoted, revoked = times = [_parse_time(members.get(name)) for name in _TIMES]
    for name, time in zip(_TIMES, times, strict=True):
        if time is None and (name in members or name == "created"):
            faults.append(f"{name} must be a time in UTC, like 2026-01-31T12:00:00Z")
    algorithm = next((a for a in Algorithm if a.value == members.get("alg")), None)
    private: PrivateKey | None = None
    if algorithm is None:
        faults.append(f"alg must be one of {', '.join(a.value for a in Algorithm)}")
    else:
        try:
            private = _load_private(algorithm, members.get("jwk"))
        except _Unfit as unfit:
            faults.append(f"jwk {unfit}")
    if faults or kid is None or algorithm is None or created is None or private is None:
        raise KeyringError(*(f"{where}: {fault}" for fault in faults))
    return SigningKey(kid, algorithm, created, promoted, revoked, private, _public(private))


def _shown(name: str) -> str:
    """Returns the text that stands for the name of a JSON member in an error message. A long name
    is not shown, because it may be key material in the wrong place.
    """
    return (
        repr(name)
        if len(name) <= _MAX_SHOWN_NAME_CHARACTERS
        else f"a name of {len(name)} characters"
    )


def _parse_kid(text: object) -> str | None:
    return text if isinstance(text, str) and _KID.fullmatch(text) else None


class _Unfit(Exception):
    """Raised if a JWK can't be used. The message names the rule that the JWK breaks."""


def _load_private(algorithm: Algorithm, jwk: object) -> PrivateKey:
    form = _JWK_FORMS[algorithm]
    names = (*form.kind, *form.public, *form.private)
    if not isinstance(jwk, dict) or jwk.keys() != set(names):
        raise _Unfit(
            f"must be a private key for {algorithm.value} with exactly the members"
            f" {', '.join(names)}"
        )
    for name, kind in form.kind.items():
        if jwk[name] != kind:
            raise _Unfit(f"must have the {name} {kind} for {algorithm.value}")
    private = _import(algorithm, jwk)
    if private is None:
        raise _Unfit("is no valid key: its members are malformed or do not belong together")
    if _export(algorithm, private) != jwk:
        raise _Unfit(
            "has members that are not in their canonical form (base64url without padding or leading"
            " zeros)"
        )
    if isinstance(private, RSAPrivateKey) and private.key_size < MIN_RSA_BITS:
        raise _Unfit(
            f"has {private.key_size} bits; {algorithm.value} needs at least {MIN_RSA_BITS}"
        )
    if isinstance(private, RSAPrivateKey) and private.key_size > MAX_RSA_BITS:
        raise _Unfit(
            f"has {private.key_size} bits: its signatures are too long; use at most {MAX_RSA_BITS}"
        )
    if isinstance(private, bytes) and len(private) < HMAC_BYTES:
        raise _Unfit(f"has {len(private)} bytes; {algorithm.value} needs at least {HMAC_BYTES}")
    if isinstance(private, bytes) and len(set(private)) < MIN_DIFFERENT_BYTES:
        raise _Unfit(f"has only {len(set(private))} different bytes: it was not drawn at random")
    return private


def _import(algorithm: Algorithm, jwk: dict[str, Any]) -> PrivateKey | None:
    """Returns the private key in a JWK, or None if the JWK is not valid. The exceptions of PyJWT
    and cryptography are not passed on, because they may contain the key.
    """
    try:
        private: PrivateKey = _SIGNERS[algorithm].from_jwk(jwk)
        _SIGNERS[algorithm].prepare_key(private)  # refuses an HMAC secret that is a public key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, OverflowError):
        return None
    return private


def format_time(time: datetime) -> str:
    """Returns a time as text in UTC (RFC 3339)."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _parse_time(text: object) -> datetime | None:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
