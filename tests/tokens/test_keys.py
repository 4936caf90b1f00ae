"""A key: its name, its form in a file, and every fault that makes it unfit."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from joserfc.jwk import JWKRegistry

from session_authority.tokens import Algorithm, Keyring, KeyringError, generate
from session_authority.tokens.keys import SigningKey, parse_key
from tests.tokens.harness import NOW, base64url, key_named, material

ALL = pytest.mark.parametrize("algorithm", Algorithm, ids=lambda algorithm: algorithm.value)
ASYMMETRIC = [algorithm for algorithm in Algorithm if algorithm is not Algorithm.HS256]
PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "k")


def as_file(key: SigningKey, **changes: Any) -> dict[str, Any]:
    """The key's JSON, without the members that are None."""
    value = {**key.to_json(), **changes}
    return {name: member for name, member in value.items() if member is not None}


def with_jwk(key: SigningKey, **changes: Any) -> dict[str, Any]:
    """The key's JSON with a changed JWK."""
    value: dict[str, Any] = key.to_json()
    jwk = {**value["jwk"], **changes}
    return {**value, "jwk": {name: member for name, member in jwk.items() if member is not None}}


def number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=="))


@ALL
def test_a_key_is_read_back_from_its_file(algorithm):
    key = replace(material(algorithm), promoted_at=NOW, revoked_at=NOW + timedelta(microseconds=1))
    read = parse_key(json.loads(json.dumps(key.to_json())), "file")
    assert read == key
    assert read.to_json() == key.to_json()
    assert key.verify(b"data", read.sign(b"data"))
    assert read.verify(b"data", key.sign(b"data"))
    assert not read.verify(b"date", key.sign(b"data"))


@pytest.mark.parametrize("algorithm", ASYMMETRIC, ids=lambda algorithm: algorithm.value)
def test_a_key_id_is_the_thumbprint(algorithm):
    key = material(algorithm)
    public = key.public_jwk()
    assert public is not None
    nameless: dict[str, str | list[str]] = {name: public[name] for name in public if name != "kid"}
    assert JWKRegistry.import_key(nameless).thumbprint() == key.kid


def test_no_key_id_looks_like_an_option(monkeypatch):
    # The first name would start with "-".
    drawn = iter([b"s" * 32, b"\xfb" * 16, b"t" * 32, b"\x01" * 16])
    monkeypatch.setattr(secrets, "token_bytes", lambda count: next(drawn))
    key = generate(Algorithm.HS256, NOW)
    assert key.kid == base64url(b"\x01" * 16)
    assert key.private == b"t" * 32


def test_new_keys_have_3072_bits_or_32_bytes_and_differ():
    assert number(material(Algorithm.RS256).to_json()["jwk"]["n"]).bit_length() == 3072  # type: ignore[index]
    assert len(material(Algorithm.HS256).private) == 32  # type: ignore[arg-type]
    assert material(Algorithm.HS256, "one").private != material(Algorithm.HS256, "other").private


@pytest.mark.parametrize("algorithm", ASYMMETRIC, ids=lambda algorithm: algorithm.value)
def test_a_public_jwk_has_no_private_member(algorithm):
    jwk = material(algorithm).public_jwk()
    assert jwk is not None
    assert not jwk.keys() & set(PRIVATE)
    assert (jwk["use"], jwk["alg"], jwk["kid"]) == ("sig", algorithm.value, material(algorithm).kid)


def test_a_secret_has_no_public_jwk():
    assert material(Algorithm.HS256).public_jwk() is None
    assert Keyring([key_named("a", NOW)]).public_jwks() == []


@ALL
def test_a_key_prints_no_material(algorithm):
    key = material(algorithm)
    jwk: dict[str, str] = key.to_json()["jwk"]  # type: ignore[assignment]
    printed = f"{key} {key!r} {Keyring([key])!r}"
    assert key.kid in printed
    assert "private" not in printed
    for name in jwk.keys() & set(PRIVATE):
        assert jwk[name] not in printed
    if isinstance(key.private, bytes):
        assert repr(key.private) not in printed


def test_times_are_read_in_utc_and_written_in_utc():
    key = key_named("a")
    for text in ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00.0Z"):
        assert parse_key(as_file(key, created=text), "file").created_at == datetime(
            2026, 1, 31, 12, tzinfo=UTC
        )
    east = timezone(timedelta(hours=2))
    in_the_east = replace(key, created_at=datetime(2026, 1, 31, 14, tzinfo=east))
    assert in_the_east.to_json()["created"] == "2026-01-31T12:00:00Z"


EC_KEY, ED_KEY, HS_KEY = (
    key_named("ec", algorithm=Algorithm.ES256),
    key_named("ed", algorithm=Algorithm.EDDSA),
    key_named("hs"),
)
RS_KEY = key_named("rs", algorithm=Algorithm.RS256)
OTHER_ED = key_named("ed2", algorithm=Algorithm.EDDSA)
SECRET: str = HS_KEY.to_json()["jwk"]["k"]  # type: ignore[index]
PEM = ED_KEY.public.public_bytes(  # type: ignore[union-attr]
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def rsa_of(bits: int) -> dict[str, str]:
    """An RSA key with this number of bits."""
    private = replace(RS_KEY, private=generate_private_key(public_exponent=65537, key_size=bits))
    return private.to_json()["jwk"]  # type: ignore[return-value]


UNFIT = {
    "no object": ([], "must be a JSON object"),
    "unknown member": (as_file(HS_KEY, note="x"), "'note' is not a member"),
    "a secret as a member": (
        as_file(HS_KEY, **{SECRET: "x"}),
        "a name of 43 characters is not a member",
    ),
    "no kid": (as_file(HS_KEY, kid=None), "kid must be"),
    "empty kid": (as_file(HS_KEY, kid=""), "kid must be"),
    "long kid": (as_file(HS_KEY, kid="a" * 129), "kid must be"),
    "kid like an option": (as_file(HS_KEY, kid="-force"), "kid must be"),
    "kid like a hidden file": (as_file(HS_KEY, kid=".a"), "kid must be"),
    "kid like a path": (as_file(HS_KEY, kid="../a"), "kid must be"),
    "kid with a line end": (as_file(HS_KEY, kid="a\n"), "kid must be"),
    "kid in other digits": (as_file(HS_KEY, kid="\N{ARABIC-INDIC DIGIT ONE}"), "kid must be"),
    "kid of a wrong type": (as_file(HS_KEY, kid=1), "kid must be"),
    "no time": (as_file(HS_KEY, created=None), "created must be a time"),
    "null time": ({**HS_KEY.to_json(), "promoted": None}, "promoted must be a time"),
    "time without zone": (as_file(HS_KEY, created="2026-01-31T12:00:00"), "created must be a time"),
    "time elsewhere": (
        as_file(HS_KEY, promoted="2026-01-31T12:00:00+02:00"),
        "promoted must be a time",
    ),
    "no such day": (as_file(HS_KEY, revoked="2026-02-31T12:00:00Z"), "revoked must be a time"),
    "time as number": (as_file(HS_KEY, created=1772366400), "created must be a time"),
    "no alg": (as_file(HS_KEY, alg=None), "alg must be one of"),
    "alg none": (as_file(HS_KEY, alg="none"), "alg must be one of"),
    "alg of another size": (as_file(HS_KEY, alg="HS512"), "alg must be one of"),
    "alg as list": (as_file(HS_KEY, alg=["HS256"]), "alg must be one of"),
    "alg of another kind of key": (
        as_file(ED_KEY, alg="HS256"),
        "jwk must be a private key for HS256",
    ),
    "no jwk": (as_file(HS_KEY, jwk=None), "jwk must be a private key for HS256"),
    "public part only": (with_jwk(ED_KEY, d=None), "jwk must be a private key for EdDSA"),
    "unknown jwk member": (with_jwk(ED_KEY, use="sig"), "with exactly the members"),
    "wrong kty": (with_jwk(ED_KEY, kty="EC"), "must have the kty OKP"),
    "wrong curve": (with_jwk(ED_KEY, crv="Ed448"), "must have the crv Ed25519"),
    "wrong EC curve": (with_jwk(EC_KEY, crv="P-384"), "must have the crv P-256"),
    "the x of another key": (with_jwk(ED_KEY, x=OTHER_ED.to_json()["jwk"]["x"]), "no valid key"),  # type: ignore[index]
    "short d": (with_jwk(ED_KEY, d="AAAA"), "no valid key"),
    "a point off the curve": (with_jwk(EC_KEY, x=base64url(b"\x01" * 32)), "no valid key"),
    "a d that does not fit": (with_jwk(EC_KEY, d=base64url(b"\x01" * 32)), "no valid key"),
    "an RSA key of mixed parts": (with_jwk(RS_KEY, q=RS_KEY.to_json()["jwk"]["p"]), "no valid key"),  # type: ignore[index]
    "a member that is no text": (with_jwk(HS_KEY, k=1), "no valid key"),
    "a member that is a list": (with_jwk(RS_KEY, n=["AQAB"]), "no valid key"),
    "a member beyond ASCII": (with_jwk(HS_KEY, k=SECRET[:-1] + "ä"), "no valid key"),
    "empty secret": (with_jwk(HS_KEY, k=""), "no valid key"),
    "padded secret": (with_jwk(HS_KEY, k=SECRET + "="), "canonical"),
    "secret with white space": (
        with_jwk(HS_KEY, k=SECRET[:10] + "    " + SECRET[10:]),
        "canonical",
    ),
    "leading zeros": (with_jwk(RS_KEY, e="AAEAAQ"), "canonical"),
    "a secret of equal bytes": (
        with_jwk(HS_KEY, k=base64url(bytes(32))),
        "has only 1 different bytes",
    ),
    "a password": (with_jwk(HS_KEY, k=base64url(b"password" * 4)), "has only 7 different bytes"),
    "short secret": (
        with_jwk(HS_KEY, k=base64url(b"s" * 31)),
        "has 31 bytes; HS256 needs at least 32",
    ),
    "a public key as secret": (with_jwk(HS_KEY, k=base64url(PEM)), "no valid key"),
    "small RSA": (as_file(RS_KEY, jwk=rsa_of(1024)), "has 1024 bits; RS256 needs at least 2048"),
    "large RSA": (as_file(RS_KEY, jwk=rsa_of(4224)), "signatures are too long; use at most 4096"),
}


@pytest.mark.parametrize(("value", "rule"), UNFIT.values(), ids=UNFIT)
def test_the_error_of_an_unfit_key_names_the_rule(value, rule):
    with pytest.raises(KeyringError) as caught:
        parse_key(value, "keys/some.json")
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith("keys/some.json: ")
    assert rule in caught.value.faults[0]
    jwk = value.get("jwk") if isinstance(value, dict) else None
    for name, member in jwk.items() if isinstance(jwk, dict) else ():
        assert name not in PRIVATE or len(str(member)) < 6 or str(member) not in str(caught.value)
    # The cause of the exception may be printed too, so there is none.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_all_faults_of_a_key_are_named():
    with pytest.raises(KeyringError) as caught:
        parse_key({"kid": "", "alg": "HS256", "extra": 1, "promoted": "soon"}, "file")
    assert len(caught.value.faults) == 5


def test_a_secret_of_exactly_32_bytes_is_accepted():
    secret = bytes(range(32))
    assert parse_key(with_jwk(HS_KEY, k=base64url(secret)), "file").private == secret


@pytest.mark.parametrize("secret", [b"01234567" * 8, b"0123456789abcdef" * 4])
def test_a_secret_with_few_different_digits_is_accepted(secret):
    """Random hexadecimal digits have at most 16 different values, and rarely all of them."""
    assert parse_key(with_jwk(HS_KEY, k=base64url(secret)), "file").private == secret
