"""Signs access tokens, and verifies that an access token is from this service.

This module defines the JWT form of `domain.sessions.Token` (RFC 7519, RFC 9068). This module checks
everything about a token except its expiry and its session, which other modules check. The checks in
this module are strict. For example, a token is not valid if a member is repeated, if its header has
an additional member, if an unknown claim is not a string, or if its base64url is not canonical.
This module never writes a claim `nbf`, but obeys this claim in a token.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TypeVar

from session_authority.domain.base64url import decode_base64url, encode_base64url
from session_authority.domain.errors import InvalidRequest
from session_authority.domain.fields import RESERVED_CLAIMS, FieldChecks
from session_authority.domain.identifiers import DEVICE_KEY_BYTES
from session_authority.domain.moments import LAST_SECOND, from_seconds, to_seconds
from session_authority.domain.session_limits import LEEWAY
from session_authority.domain.sessions import Token
from session_authority.tokens.encoding import decode_json_object, encode_json
from session_authority.tokens.keyring import KeySource
from session_authority.tokens.keys import MAX_RSA_BITS, SigningKey
from session_authority.tokens.token_memory import MEMORY_BYTES, Remembered, TokenMemory

MAX_TOKEN_BYTES = 4096
# The largest size of a token at sign-in. This size is less than MAX_TOKEN_BYTES, because a browser
# keeps a cookie only if its name and value have at most 4,096 bytes together.
_ROOM_BYTES = 4000
# The largest sizes in base64url of a token's header and signature. The header is largest if it has
# the longest key ID, and the signature is largest if it is made with the longest RSA key.
_LARGEST_HEADER_BYTES = 223
_LARGEST_SIGNATURE_BYTES = (MAX_RSA_BITS + 5) // 6
_TYP = "at+jwt"  # RFC 9068 §2.1
_HEADER = frozenset({"alg", "kid", "typ"})
_SESSION_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_COPY = re.compile(r"[0-9a-f]{4}", re.ASCII)
_MAX_GENERATION = 2**32 - 1

_T = TypeVar("_T")


class TokenTooLarge(Exception):
    """Raised if a token, or a later token of the same session, could have too many bytes. The
    service does not accept a token with more than MAX_TOKEN_BYTES. Browsers may not keep a cookie
    with a token of nearly MAX_TOKEN_BYTES. `size` is the possible size of the token in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the token could have {size} bytes; the limit is {limit}")
        self.size = size


class Tokens:
    """Signs and verifies the tokens of one issuer for one audience. Only one thread may use an
    object of this class.

    `lifetime` is how long a token may be presented after it was signed. `lifetime` includes the
    time in which a token can only be renewed. A demoted key verifies until `lifetime` has passed
    since its demotion. Verified tokens are cached by the hash of their text. The cache is emptied
    when the keys change. Expired tokens are removed while new tokens are added. If the cache needs
    more than `memory_bytes`, the tokens that were not used for the longest time are removed.
    """

    def __init__(
        self,
        source: KeySource,
        issuer: str,
        audience: str,
        lifetime: timedelta,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._source = source
        self._issuer = issuer
        self._audience = audience
        self._lifetime = lifetime
        self._remembered = TokenMemory(memory_bytes)
        # The decoded headers of verified tokens, by the encoded text of the header. All tokens that
        # one key signed have the same header.
        self._headers: dict[str, tuple[str, object]] = {}
        self._version = source.version
        self._known = source.current
        self._revoked: frozenset[str] = frozenset()
        self._vanished: frozenset[str] = frozenset()

    def sign(self, token: Token) -> str:
        """Signs a token, and returns the text of the token. The times in the text have no fractions
        of a second.

        Raises ValueError if a claim has a reserved name, TokenTooLarge if the text has more than
        MAX_TOKEN_BYTES, and KeyringError if no key signs.
        """
        if reserved := RESERVED_CLAIMS & token.claims.keys():
            raise ValueError(f"reserved claims: {', '.join(sorted(reserved))}")
        key = self._source.current.signing
        header = {"alg": key.algorithm.value, "kid": key.kid, "typ": _TYP}
        parts = (encode_json(part) for part in (header, self._payload(token)))
        signed = ".".join(map(encode_base64url, parts))
        text = f"{signed}.{encode_base64url(key.sign(signed.encode()))}"
        if len(text) > MAX_TOKEN_BYTES:
            raise TokenTooLarge(len(text), MAX_TOKEN_BYTES)
        return text

    def check_room(self, token: Token) -> None:
        """Raises TokenTooLarge if the token, or a later token of its session, could be too large
        for a cookie. A later token can be larger than `token`, because its generation may have more
        digits and another key may sign it.
        """
        latest = replace(token, generation=_MAX_GENERATION)
        bits = 8 * len(encode_json(self._payload(latest)))
        size = _LARGEST_HEADER_BYTES + (bits + 5) // 6 + _LARGEST_SIGNATURE_BYTES + len("..")
        if size > _ROOM_BYTES:
            raise TokenTooLarge(size, _ROOM_BYTES)

    def verify(self, text: str, now: datetime) -> Token | None:
        """Returns the verified token in `text`. Returns None if `text` is no valid token of this
        service, or if the key of the token does not verify any more. A returned token may have
        expired, so callers must check its `expires_at`.
        """
        if len(text) > MAX_TOKEN_BYTES or not text.isascii():
            return None
        digest = _digest(text)
        if (remembered := self._recalled(digest)) is not None:
            # The signature and the fields were checked when the token was cached. Only the key is
            # checked again, because a demoted key verifies only for a limited time.
            return remembered.token if self._verifier(remembered.kid, now) is not None else None
        try:
            token, kid = self._open(text, now)
        except (ValueError, RecursionError, InvalidRequest):
            return None
        self._remembered.add(digest, token, kid, now)
        return token

    def keep(self, text: str, kept: object, size_bytes: int) -> None:
        """Stores a value with a verified token in the cache, as long as the token is in the cache.
        The value counts as `size_bytes` of the cache. Nothing is stored if the token is no longer
        in the cache, or if the token and the value together need more than a third of
        `memory_bytes`.
        """
        if text.isascii():
            self._remembered.keep(_digest(text), kept, size_bytes)

    def recall(self, text: str, now: datetime) -> object | None:
        """Returns the value that `keep` stored with a token. Returns None if no value is stored, or
        if the key of the token does not verify any more. This method does not verify the signature
        again.
        """
        if len(text) > MAX_TOKEN_BYTES or not text.isascii():
            return None
        remembered = self._recalled(_digest(text))
        if remembered is None or self._verifier(remembered.kid, now) is None:
            return None
        return remembered.kept

    def _recalled(self, digest: bytes) -> Remembered | None:
        if self._version != self._source.version:
            self._remembered.clear()
            self._headers.clear()
            self._version = self._source.version
        return self._remembered.get(digest)

    def public_jwks(self) -> list[dict[str, str]]:
        """Returns the public parts of all keys that are not revoked, as JWKs. The list includes
        keys that signed earlier and keys that do not sign yet. Keys of HS256 are left out, because
        they have no public part.
        """
        return self._source.current.public_jwks()

    def void_keys(self, now: datetime) -> tuple[frozenset[str], frozenset[str]]:
        """Returns two sets of key IDs. The tokens that these keys signed are void, even if the
        tokens have not expired. The first set has the revoked keys. The second set has the keys
        that were removed from the folder or file although they could still verify tokens. To find
        removed keys, this method compares the present keys with the keys at its previous call. So
        this method misses a key that was added and removed between two calls.

        A revoked key stays in the first set after its removal. If a removed key comes back, the
        second set no longer has this key.
        """
        before, ring = self._known, self._source.current
        if ring is not before:
            gone = (
                key for key in before.keys if key.promoted_at is not None and key.kid not in ring
            )
            vanished = {
                key.kid for key in gone if before.verifier(key.kid, now, self._lifetime) is not None
            }
            self._vanished = frozenset(kid for kid in self._vanished | vanished if kid not in ring)
            self._known = ring
        self._revoked |= ring.revoked()
        return self._revoked, self._vanished

    def _payload(self, token: Token) -> dict[str, object]:
        session_id = token.session_id.hex()
        payload: dict[str, object] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": token.user_id,
            "dk": encode_base64url(token.device_key),
            "sid": session_id,
            "gen": token.generation,
            "jti": f"{session_id}.{token.generation}.{token.copy:04x}",
            "iat": to_seconds(token.issued_at),
            "exp": to_seconds(token.expires_at),
            "auth_time": to_seconds(token.signed_in_at),
        }
        if token.auth_methods:
            payload["amr"] = token.auth_methods
        return {**payload, **token.claims}

    def _open(self, text: str, now: datetime) -> tuple[Token, str]:
        """Returns the verified token in a text, and the ID of the key that signed the token. Raises
        ValueError, RecursionError or InvalidRequest if the text is no valid token.
        """
        header_text, payload_text, signature_text = text.split(".")
        header = self._headers.get(header_text) or _read_header(header_text)
        key = self._key_of(*header, now)
        signed = text[: -len(signature_text) - 1].encode()
        if not key.verify(signed, decode_base64url(signature_text)):
            raise ValueError("signature")
        token = self._read(decode_json_object(decode_base64url(payload_text)), now)
        self._headers[header_text] = header
        return token, key.kid

    def _key_of(self, kid: str, algorithm: object, now: datetime) -> SigningKey:
        self._source.seek(kid, now)
        key = self._verifier(kid, now)
        # The key determines the algorithm (RFC 8725 §3.1). The algorithm in a token's header must
        # be the algorithm of the key.
        if key is None or algorithm != key.algorithm.value:
            raise ValueError("key")
        return key

    def _verifier(self, kid: str, now: datetime) -> SigningKey | None:
        return self._source.current.verifier(kid, now, self._lifetime)

    def _read(self, payload: dict[str, object], now: datetime) -> Token:
        """Returns the token that a payload describes. Removes the service's own claims from
        `payload`, so that only the claims of the caller are left. Raises ValueError or
        InvalidRequest if the payload is not valid.
        """
        if (
            _take(payload, "iss", str) != self._issuer
            or _take(payload, "aud", str) != self._audience
        ):
            raise ValueError("issuer or audience")
        user_id = _take(payload, "sub", str)
        device_key = decode_base64url(_take(payload, "dk", str))
        session_id = _take(payload, "sid", str)
        generation = _take(payload, "gen", int)
        if len(device_key) != DEVICE_KEY_BYTES or not _SESSION_ID.fullmatch(session_id):
            raise ValueError("device key or session")
        if not 1 <= generation <= _MAX_GENERATION:
            raise ValueError("generation")
        copy = _read_copy(_take(payload, "jti", str), f"{session_id}.{generation}.")
        issued = _moment(_take(payload, "iat", int))
        not_before = _moment(_take(payload, "nbf", int)) if "nbf" in payload else issued
        if max(issued, not_before) > now + LEEWAY:
            raise ValueError("not yet good")
        expires = _moment(_take(payload, "exp", int))
        # The times `iat` and `exp` may be equal, because a session can be renewed in its last
        # second.
        if expires < issued:
            raise ValueError("over before it began")
        token = Token(
            user_id=user_id,
            device_key=device_key,
            session_id=bytes.fromhex(session_id),
            generation=generation,
            copy=copy,
            issued_at=issued,
            expires_at=expires,
            signed_in_at=_moment(_take(payload, "auth_time", int)),
            auth_methods=_strings(payload.pop("amr", [])),
            claims=_claims(payload),
        )
        checks = FieldChecks()
        checks.user_id(token.user_id)
        checks.auth_methods(token.auth_methods)
        checks.done()
        return token


def _read_header(text: str) -> tuple[str, object]:
    """Returns the key ID and the algorithm that are in the header of a token. Raises ValueError or
    RecursionError if the header is not valid.
    """
    header = decode_json_object(decode_base64url(text))
    # Only the members `alg`, `kid` and `typ` are accepted. With `jku`, `jwk`, `x5u` or `x5c`, an
    # attacker could provide a key. The members `crit` and `b64` would change the rules of
    # verification.
    if header.keys() != _HEADER or header["typ"] != _TYP:
        raise ValueError("header")
    return _take(header, "kid", str), header["alg"]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _take(members: dict[str, object], name: str, kind: type[_T]) -> _T:
    """Removes a member, and returns its value. Raises ValueError if the member is missing, or if
    its value is not of the type `kind`.
    """
    value = members.pop(name, None)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(name)
    return value


def _read_copy(token_id: str, start: str) -> int:
    """Returns the copy of a token, as the number in the claim `jti`. The claim must begin with
    `start`, which has the session and the generation of the token. Raises ValueError if the claim
    is not valid.
    """
    text = token_id.removeprefix(start)
    if token_id != start + text or not _COPY.fullmatch(text) or int(text, 16) == 0:
        raise ValueError("jti")
    return int(text, 16)


def _strings(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ValueError("not a list")
    strings = tuple(value for value in values if isinstance(value, str))
    if len(strings) != len(values):
        raise ValueError("not a list of strings")
    return strings


def _claims(members: dict[str, object]) -> MappingProxyType[str, str]:
    """Returns the claims of the caller. The mapping is read-only, because all calls with the same
    token share the mapping. Raises ValueError if a claim is not a valid string or has a reserved
    name.
    """
    claims = {name: value for name, value in members.items() if isinstance(value, str)}
    if len(claims) != len(members) or RESERVED_CLAIMS & claims.keys():
        raise ValueError("claims")
    "".join(
        (*claims, *claims.values())
    ).encode()  # raises UnicodeEncodeError, a ValueError, for half of a surrogate pair
    return MappingProxyType(claims)


def _moment(seconds: int) -> datetime:
    if not 0 <= seconds <= LAST_SECOND:
        raise ValueError("no moment of a token")
    return from_seconds(seconds)
