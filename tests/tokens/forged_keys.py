"""Forgeries by signer, signature and header. See `forgeries`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from session_authority.tokens import Algorithm, SigningKey
from tests.tokens.forger import (
    ASYMMETRIC,
    GONE,
    KEYS,
    NAMESAKES,
    P256_ORDER,
    SECRET,
    SIGNING,
    Kinds,
    Texts,
    Victim,
    adding_to,
    always,
    hmac_with,
    r_and_s,
    resigned,
    ring,
    told,
    without,
)
from tests.tokens.harness import base64url, header_of

KINDS: Kinds = {}
kind = adding_to(KINDS)
_HEADER = header_of(SECRET)
_ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493

# ----- who signed, and how


@kind
def unsigned(victim: Victim) -> Texts:
    algs: list[Any] = [
        "none",
        "None",
        "NONE",
        "nOnE",
        "none ",
        " none",
        "",
        "null",
        None,
        0,
        False,
        [],
        {},
        ["none"],
    ]
    for alg in algs:
        header = {**_HEADER, "alg": alg}
        for name, sign in (
            ("nothing", always(b"")),
            ("our signature", SECRET.sign),
            ("a letter", always(b"A")),
        ):
            yield f"alg {alg!r} with {name}", victim.signed(header, sign=sign)
        yield f"alg {alg!r} in two segments", victim.signed(header, sign=always(b"")).rstrip(".")
    yield "our header and no signature", victim.signed(sign=always(b""))
    yield "no header at all", victim.signed(b"{}", sign=always(b""))


def _public_forms(key: SigningKey) -> Iterator[tuple[str, bytes]]:
    """All public data that attackers have used as an HMAC secret."""
    jwk = key.public_jwk()
    assert jwk is not None
    assert not isinstance(key.public, bytes)
    jwks = {
        "the JWK": jwk,
        "the JWKS": {"keys": [jwk]},
        "a bare JWK": without(without(jwk, "kid"), "use"),
    }
    for name, value in jwks.items():
        for style, text in (
            ("", json.dumps(value)),
            (", tight", json.dumps(value, separators=(",", ":"))),
            (", sorted", json.dumps(value, separators=(",", ":"), sort_keys=True)),
            (", indented", json.dumps(value, indent=2)),
        ):
            yield name + style, text.encode()
            yield f"{name}{style}, with a newline", text.encode() + b"\n"
    formats = {"SPKI": PublicFormat.SubjectPublicKeyInfo}
    if isinstance(key.public, RSAPublicKey):
        formats["PKCS #1"] = PublicFormat.PKCS1
    for name, form in formats.items():
        pem = key.public.public_bytes(Encoding.PEM, form)
        yield f"PEM of {name}", pem
        yield f"PEM of {name}, without a newline", pem.strip()
        yield f"PEM of {name}, with CRLF", pem.replace(b"\n", b"\r\n")
        yield f"PEM of {name}, its inner part", b"".join(pem.splitlines()[1:-1])
        yield f"DER of {name}", key.public.public_bytes(Encoding.DER, form)
    if isinstance(key.public, Ed25519PublicKey):
        yield "the raw key", key.public.public_bytes_raw()
    if isinstance(key.public, EllipticCurvePublicKey):
        yield "the point", key.public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        yield (
            "the compressed point",
            key.public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint),
        )
    for name in {"x", "y", "n", "e", "kid"} & jwk.keys():
        yield f"its {name}", jwk[name].encode()


@kind
def public_keys_as_secrets(victim: Victim) -> Texts:
    for key in ASYMMETRIC:
        for name, secret in _public_forms(key):
            for kid in (key.kid, SECRET.kid):
                text = victim.signed({**_HEADER, "kid": kid}, sign=hmac_with(secret))
                yield f"{name} of {key.kid} as the secret of {kid}", text


@kind
def guessed_secrets(victim: Victim) -> Texts:
    everything = json.dumps({"keys": [key.public_jwk() for key in ASYMMETRIC]}).encode()
    for secret in (
        b"",
        b"secret",
        b"changeme",
        b"null",
        bytes(32),
        b"HS256",
        b"signing",
        everything,
    ):
        for kid in (SECRET.kid, "signing", "/dev/null", "../../../dev/null"):
            yield (
                f"{told(secret)} for {kid}",
                victim.signed({**_HEADER, "kid": kid}, sign=hmac_with(secret)),
            )
    for claim in ("iss", "aud", "sub"):
        yield f"the {claim}", victim.signed(sign=hmac_with(victim.payload[claim].encode()))


@kind
def algorithms(victim: Victim) -> Texts:
    for claimed, named in KEYS.items():
        for used, key in KEYS.items():
            if claimed is not used:
                for kid in (named.kid, key.kid):
                    header = {**_HEADER, "alg": claimed.value, "kid": kid}
                    yield (
                        f"{claimed.value} for the key {kid}, signed as {used.value}",
                        victim.signed(header, key=key),
                    )
    for alg in (
        "HS384",
        "HS512",
        "hs256",
        "HS256 ",
        "HS256\0",
        "ΗS256",
        ["HS256"],
        {"HS256": 1},
        1,
        True,
        "dir",
        "A",
    ):
        yield f"alg {alg!r}", victim.signed({**_HEADER, "alg": alg})
    for alg in (
        "PS256",
        "RS384",
        "RS512",
        "Ed25519",
        "Ed448",
        "ES384",
        "ES256K",
        "ESP256",
        "eddsa",
        "EDDSA",
    ):
        for key in ASYMMETRIC:
            yield f"alg {alg} for {key.kid}", victim.signed({**header_of(key), "alg": alg}, key=key)


@kind
def keys_that_vouch_for_nothing(victim: Victim) -> Texts:
    states = {key.kid: key for key in ring(victim.now)}
    for key in (states["revoked"], states["demoted"], GONE):
        yield f"a key that is {key.kid}", victim.signed(key=key)
    for key in NAMESAKES:
        yield f"a key of another installation that is called {key.kid} too", victim.signed(key=key)
        renamed = victim.signed({**header_of(key), "kid": "signing"}, key=key)
        yield f"the same, called signing instead of {key.kid}", renamed


@kind
def key_names(victim: Victim) -> Texts:
    texts = [
        "",
        "other",
        "hs256",
        "HS256 ",
        " HS256",
        "HS256\0",
        "HS256\n",
        "HS256\r\n",
        "\tHS256",
        "HS256/",
        "HS256,",
    ]
    texts += [
        "HS256.json",
        "./HS256",
        "../keys/HS256",
        "HS256/../HS256",
        "..\\HS256",
        "/dev/null",
        "file:///HS256",
    ]
    texts += [
        "' OR '1'='1",
        "HS256' --",
        "HS256'; DROP TABLE keys",
        "*",
        "HS*",
        "${HS256}",
        "$(id)",
        "%48S256",
        "\0",
    ]
    texts += [
        "НS256",
        "ＨＳ２５６",
        "HS256\u200b",
        "\ufeffHS256",
        "HS2\u0665\u0666",
        "\ud800",
        "☃" * 100,
    ]
    values = [
        *texts,
        None,
        0,
        -1,
        2**64,
        1.5,
        True,
        [],
        ["HS256"],
        {},
        {"kid": "HS256"},
        "k" * 1000,
        "k" * 1_000_000,
    ]
    for key in (SECRET, SIGNING):  # The key that a careless verifier would fall back on.
        for value in values:
            yield (
                f"kid {told(value)} for {key.kid}",
                victim.signed({**header_of(key), "kid": value}, key=key),
            )
        yield f"no kid for {key.kid}", victim.signed(without(header_of(key), "kid"), key=key)
    for state in ("revoked", "demoted", "gone", "EdDSA"):
        yield f"our secret under the name {state}", victim.signed({**_HEADER, "kid": state})


@kind
def signatures(victim: Victim) -> Texts:
    for algorithm, text in victim.real_ones().items():
        sizes = [1, 31, 32, 33, 63, 64, 65, 384]
        for made in [b"", *map(bytes, sizes), *(b"\xff" * size for size in sizes), bytes(2000)]:
            yield f"{algorithm.value}: {len(made)} × {made[:1]!r}", resigned(text, always(made))
        for name, change in _CHANGES.items():
            yield f"{algorithm.value}: {name}", resigned(text, change)
        other = victim.signed(payload={**victim.payload, "sub": "eve"}, key=KEYS[algorithm])
        yield (
            f"{algorithm.value}: of another token",
            text.rpartition(".")[0] + "." + other.rpartition(".")[2],
        )
    real = victim.real_ones()
    for name, make in _ECDSA_SIGNATURES.items():
        yield f"ES256: {name}", resigned(real[Algorithm.ES256], make)
    yield "EdDSA: S + L", resigned(real[Algorithm.EDDSA], _with_s_beyond_the_order)
    yield "RS256: n − s", resigned(real[Algorithm.RS256], lambda data: _with_modulus(data, -1))
    yield "RS256: n + s", resigned(real[Algorithm.RS256], lambda data: _with_modulus(data, 1))


_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:-1],
    "a zero before": lambda data: b"\0" + data,
    "a zero after": lambda data: data + b"\0",
    "twice": lambda data: data * 2,
    "turned": lambda data: data[::-1],
    "in hex": lambda data: data.hex().encode(),
    "in base64 once more": lambda data: base64url(data).encode(),
}
_ECDSA_SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "DER": lambda data: encode_dss_signature(*r_and_s(data)),
    "r and s are 0": lambda data: bytes(64),
    "r is 0": lambda data: bytes(32) + data[32:],
    "s is 0": lambda data: data[:32] + bytes(32),
    "r and s are 1": lambda data: (bytes(31) + b"\1") * 2,
    "r and s are n": lambda data: P256_ORDER.to_bytes(32) * 2,
    "r is n": lambda data: P256_ORDER.to_bytes(32) + data[32:],
    "n − r": lambda data: (P256_ORDER - r_and_s(data)[0]).to_bytes(32) + data[32:],
    "r and s swapped": lambda data: data[32:] + data[:32],
    "n + s, in 33 bytes": lambda data: data[:32] + (P256_ORDER + r_and_s(data)[1]).to_bytes(33),
}


def _with_s_beyond_the_order(data: bytes) -> bytes:
    return data[:32] + (int.from_bytes(data[32:], "little") + _ED25519_ORDER).to_bytes(32, "little")


def _with_modulus(data: bytes, sign: int) -> bytes:
    public = KEYS[Algorithm.RS256].public
    assert isinstance(public, RSAPublicKey)
    return (
        (public.public_numbers().n + sign * int.from_bytes(data))
        .to_bytes(len(data) + 1)
        .removeprefix(b"\0")
    )


# --- the header, signed by a real key -------------------------------------------------------------


@kind
def headers(victim: Victim) -> Texts:
    more: list[dict[str, Any]] = [
        *(
            {"jku": "https://evil.example/keys"},
            {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
            {"jwk": None},
        ),
        *(
            {"x5u": "https://evil.example/cert"},
            {"x5c": ["MIIB"]},
            {"x5t": "AAAA"},
            {"x5t#S256": "AAAA"},
        ),
        *({"crit": []}, {"crit": None}, {"crit": ["kid"]}, {"crit": ["exp"], "exp": 1}),
        {"crit": ["b64"], "b64": False},
        *(
            {"b64": True},
            {"b64": False},
            {"cty": "JWT"},
            {"zip": "DEF"},
            {"enc": "A128GCM"},
            {"": ""},
            {"iss": "x"},
        ),
        *(
            {"Alg": "none"},
            {"KID": "x"},
            {"typ ": "at+jwt"},
            {"p2c": 10**9},
            {"epk": {}},
            {"\0": 1},
        ),
    ]
    for members in more:
        yield f"with {members}", victim.signed({**_HEADER, **members})
    for name in _HEADER:
        yield f"without {name}", victim.signed(without(_HEADER, name))
        yield (
            f"{name} in capitals",
            victim.signed({**without(_HEADER, name), name.upper(): _HEADER[name]}),
        )
    types = [
        "JWT",
        "jwt",
        "AT+JWT",
        "at+JWT",
        "at-jwt",
        "at+jwt ",
        " at+jwt",
        "at+jwt\0",
        "application/at+jwt",
        "JOSE",
    ]
    types += ["", "at+jwt+x", "id+jwt", "dpop+jwt"]
    for value in [*types, None, 1, True, ["at+jwt"], {"at+jwt": 1}]:
        yield f"typ {value!r}", victim.signed({**_HEADER, "typ": value})


@kind
def unencoded_payloads(victim: Victim) -> Texts:
    """RFC 7797, and detached payloads (RFC 7515, appendix F)."""
    payload = json.dumps(victim.payload)
    for name, header in (("b64", {**_HEADER, "b64": False, "crit": ["b64"]}), ("no b64", _HEADER)):
        start = base64url(json.dumps(header).encode())
        signature = base64url(SECRET.sign(f"{start}.{payload}".encode()))
        for how, middle in (
            ("detached", ""),
            ("plain", payload),
            ("encoded", base64url(payload.encode())),
        ):
            yield f"{name}, {how}", f"{start}.{middle}.{signature}"
    header_text, _, signature = victim.text.split(".")
    yield "a real token, with its payload detached", f"{header_text}..{signature}"
