"""The target of the forgeries: an installation with keys in every state, and the real token of a
live user.

The forger knows everything that is public. For some forgeries, a real key of the service signs:
claims that the service never signs are refused all the same.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from session_authority.tokens import Algorithm, SigningKey
from tests.tokens.harness import DAY, base64url, compact, header_of, key_named

# A published key of each algorithm: it verifies, as every process must know a key before one of
# them signs with it.
KEYS = {algorithm: key_named(algorithm.value, algorithm=algorithm) for algorithm in Algorithm}
ASYMMETRIC = [key for algorithm, key in KEYS.items() if algorithm is not Algorithm.HS256]
SECRET = KEYS[Algorithm.HS256]
SIGNING = key_named("signing", algorithm=Algorithm.EDDSA)
# Keys in no ring: a removed key, and keys of another installation with the names of these keys.
GONE = key_named("gone")
NAMESAKES = [replace(key_named("stranger", algorithm=a), kid=key.kid) for a, key in KEYS.items()]

# The order of the group that ECDSA on P-256 computes in.
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Sign = Callable[[bytes], bytes]


def ring(now: datetime) -> list[SigningKey]:
    """The keys of the installation: the key that signs, a key that signed too long ago, a revoked
    key, and the published keys.
    """
    return [
        replace(SIGNING, promoted_at=now - 20 * DAY),
        key_named("demoted", now - 30 * DAY),
        key_named("revoked", now - 25 * DAY, revoked=now - DAY),
        *KEYS.values(),
    ]


@dataclass(frozen=True, slots=True)
class Victim:
    """The real token of a live user: its text, and its payload."""

    text: str
    payload: Mapping[str, Any]

    @classmethod
    def of(cls, text: str) -> Victim:
        """The victim whose token this is."""
        return cls(text, json.loads(_decoded(text.split(".")[1])))

    @property
    def now(self) -> datetime:
        """When the token was signed. The forgeries are presented at this time."""
        return datetime.fromtimestamp(self.payload["iat"], UTC)

    def signed(
        self,
        header: Mapping[str, Any] | bytes | None = None,
        payload: Mapping[str, Any] | bytes | None = None,
        key: SigningKey = SECRET,
        sign: Sign | None = None,
    ) -> str:
        """A text that differs from a real token only in the given parts. Without `sign`, the key
        signs the text.
        """
        return compact(
            header_of(key) if header is None else header,
            self.payload if payload is None else payload,
            key.sign if sign is None else sign,
        )

    def saying(self, **claims: Any) -> str:
        """A text with other claims, signed by a real key."""
        return self.signed(payload={**self.payload, **claims})

    def real_ones(self) -> dict[Algorithm, str]:
        """A real token of each algorithm, all of this session, generation and copy."""
        return {algorithm: self.signed(key=key) for algorithm, key in KEYS.items()}


# Each function yields the names and texts of one kind.
Texts = Iterator[tuple[str, str]]
Generate = Callable[[Victim], Texts]
Kinds = dict[str, Generate]


def adding_to(kinds: Kinds) -> Callable[[Generate], Generate]:
    """A decorator that adds a function as one of these kinds."""

    def add(generate: Generate) -> Generate:
        kinds[generate.__name__] = generate
        return generate

    return add


def told(value: object) -> str:
    """A value as it stands in the name of a forgery."""
    text = ascii(value)
    return text if len(text) < 40 else f"{text[:12]}...{text[-16:]} of {len(text)}"


def hmac_with(secret: bytes) -> Sign:
    """Signs as HS256 does, with this secret."""
    return lambda data: hmac.digest(secret, data, hashlib.sha256)


def always(signature: bytes) -> Sign:
    """Returns the same signature for everything."""
    return lambda _: signature


def without(members: Mapping[str, Any], name: str) -> dict[str, Any]:
    """All members except one."""
    return {key: value for key, value in members.items() if key != name}


def spelled(members: Iterable[tuple[str, str]]) -> bytes:
    """JSON of an object whose members are JSON already, for objects that no dict can hold."""
    return ("{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members) + "}").encode()


def json_with(members: Mapping[str, Any], name: str, value: str) -> bytes:
    """JSON of an object, with the JSON of one member's value given as text."""
    return spelled(
        (key, value if key == name else json.dumps(member)) for key, member in members.items()
    )


def flipped_bits(text: str, step: int = 1) -> Texts:
    """Texts that differ from this text in one bit: in each bit whose number is a multiple of
    `step`.
    """
    for number in range(0, len(text) * 8, step):
        position, bit = divmod(number, 8)
        yield (
            f"bit {bit} of {position}",
            f"{text[:position]}{chr(ord(text[position]) ^ 1 << bit)}{text[position + 1 :]}",
        )


def resigned(text: str, change: Callable[[bytes], bytes]) -> str:
    """The text with another signature."""
    signed, _, signature = text.rpartition(".")
    return f"{signed}.{base64url(change(_decoded(signature)))}"


def r_and_s(signature: bytes) -> tuple[int, int]:
    """The two numbers of a signature of ES256."""
    return int.from_bytes(signature[:32]), int.from_bytes(signature[32:])


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
