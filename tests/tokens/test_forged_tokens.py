"""Everything that is no token of ours: each is told so, and nothing that is sent makes the verifier stumble."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from session_authority.tokens import Algorithm
from tests.tokens.workshop import (
    AUDIENCE,
    ISSUER,
    NOW,
    PAYLOAD,
    SECOND,
    TOKEN,
    base64url,
    compact,
    header_of,
    key_named,
    save,
    tokens_of,
)

ALL = pytest.mark.parametrize("algorithm", Algorithm, ids=lambda algorithm: algorithm.value)
KEYS = {algorithm: key_named(algorithm.value, algorithm=algorithm) for algorithm in Algorithm}
SIGNING = replace(KEYS[Algorithm.HS256], kid="signing", promoted=NOW)
STRANGER = key_named("stranger")
HEADER = header_of(SIGNING)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """Those of a ring that holds a key of each algorithm."""
    return tokens_of(save(tmp_path_factory.mktemp("keys"), SIGNING, *KEYS.values()))


def signed(header=HEADER, payload=PAYLOAD):
    """A text that our own key signed."""
    return compact(header, payload, SIGNING.sign)


def without(members, name):
    return {key: value for key, value in members.items() if key != name}


def test_the_forger_can_make_a_real_token(tokens):
    """Else all the rest would prove nothing."""
    assert tokens.verify(signed(), NOW) == TOKEN
    for key in KEYS.values():
        assert tokens.verify(compact(header_of(key), PAYLOAD, key.sign), NOW) == TOKEN


# ----- signature, algorithm and key


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, [], {}, True])
def test_an_unsigned_token(tokens, alg):
    header = {**HEADER, "alg": alg}
    signature = base64url(SIGNING.sign(compact(header, PAYLOAD, lambda _: b"")[:-1].encode()))
    for text in (compact(header, PAYLOAD, lambda _: b""), signed(header)):
        assert tokens.verify(text, NOW) is None
        assert tokens.verify(text.rstrip("."), NOW) is None
        assert tokens.verify(text.rsplit(".", 1)[0] + "." + signature, NOW) is None


def public_forms(key):
    """Everything that people have ever taken for an HMAC secret."""
    jwk = key.public_jwk()
    jwks = [jwk, {"keys": [jwk]}, without(jwk, "kid")]
    yield from (json.dumps(value).encode() for value in jwks)
    yield from (json.dumps(value, separators=(",", ":"), sort_keys=True).encode() for value in jwks)
    for encoding in (Encoding.PEM, Encoding.DER):
        data = key.public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        yield from (data, data.strip())
    yield from (jwk[name].encode() for name in ("x", "n", "kid") if name in jwk)


@pytest.mark.parametrize("algorithm", [a for a in Algorithm if a is not Algorithm.HS256], ids=lambda a: a.value)
def test_a_public_key_is_no_secret(tokens, algorithm):
    key = KEYS[algorithm]
    for secret in public_forms(key):
        for kid in (key.kid, SIGNING.kid):

            def sign(data, secret=secret):
                return hmac.digest(secret, data, hashlib.sha256)

            assert tokens.verify(compact({**HEADER, "kid": kid}, PAYLOAD, sign), NOW) is None


@pytest.mark.parametrize("claimed", Algorithm, ids=lambda algorithm: algorithm.value)
@pytest.mark.parametrize("used", Algorithm, ids=lambda algorithm: algorithm.value)
def test_a_key_has_one_algorithm(tokens, claimed, used):
    """Whatever the header claims, under whichever name, only a key's own algorithm counts."""
    for kid in {KEYS[claimed].kid, KEYS[used].kid}:
        text = compact({**HEADER, "alg": claimed.value, "kid": kid}, PAYLOAD, KEYS[used].sign)
        assert (tokens.verify(text, NOW) is not None) is (claimed is used)


@pytest.mark.parametrize("alg", ["HS384", "HS512", "hs256", "HS256 ", "PS256", "Ed25519", ["HS256"], {"HS256": 1}, 1])
def test_an_algorithm_that_no_key_has(tokens, alg):
    assert tokens.verify(signed({**HEADER, "alg": alg}), NOW) is None


@pytest.mark.parametrize(
    "kid",
    [
        "",
        "other",
        "Signing",
        "signing ",
        "signing\x00",
        "../keys/signing",
        "signing.json",
        "/dev/null",
        "' OR '1'='1",
        "\x00",
        "\ud800",
        "☃" * 100,
        "k" * 1_000_000,
        None,
        0,
        True,
        ["signing"],
        {"kid": "signing"},
    ],
    ids=lambda kid: repr(kid)[:20],
)
def test_a_kid_that_names_no_key(tokens, kid):
    assert tokens.verify(signed({**HEADER, "kid": kid}), NOW) is None


def test_a_stranger(tokens):
    assert tokens.verify(compact(header_of(STRANGER), PAYLOAD, STRANGER.sign), NOW) is None
    assert tokens.verify(compact(HEADER, PAYLOAD, STRANGER.sign), NOW) is None


@ALL
def test_a_signature_of_a_wrong_size(tokens, algorithm):
    header = header_of(KEYS[algorithm])
    for made in (
        b"",
        b"\x00",
        b"\x00" * 31,
        b"\x00" * 32,
        b"\x00" * 64,
        b"\xff" * 64,
        b"\x00" * 384,
        b"\x00" * 2000,
    ):

        def sign(_, made=made):
            return made

        assert tokens.verify(compact(header, PAYLOAD, sign), NOW) is None


# ----- header


@pytest.mark.parametrize(
    "member",
    [
        {"jku": "https://evil.example/keys"},
        {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"x5t": "AAAA"},
        {"crit": []},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"b64": True},
        {"b64": False},
        {"cty": "JWT"},
        {"zip": "DEF"},
        {"enc": "A128GCM"},
        {"": ""},
    ],
    ids=str,
)
def test_a_header_says_three_things_and_no_more(tokens, member):
    assert tokens.verify(signed({**HEADER, **member}), NOW) is None


def test_an_unencoded_payload(tokens):
    """RFC 7797, which PyJWT speaks."""
    header = base64url(json.dumps({**HEADER, "b64": False, "crit": ["b64"]}).encode())
    payload = json.dumps(PAYLOAD)
    signature = base64url(SIGNING.sign(f"{header}.{payload}".encode()))
    for middle in ("", payload, base64url(payload.encode())):
        assert tokens.verify(f"{header}.{middle}.{signature}", NOW) is None


@pytest.mark.parametrize("name", HEADER)
def test_a_header_member_that_is_missing(tokens, name):
    assert tokens.verify(signed(without(HEADER, name)), NOW) is None


@pytest.mark.parametrize("typ", ["JWT", "jwt", "AT+JWT", "application/at+jwt", "at+jwt ", "", None, 1, ["at+jwt"]])
def test_another_type(tokens, typ):
    assert tokens.verify(signed({**HEADER, "typ": typ}), NOW) is None


@pytest.mark.parametrize(
    "part", [b"", b"null", b"1", b'"x"', b"[]", b"{}", b"{", b"\xff", b"NaN", b"[" * 2900, b'{"a":' * 580]
)
def test_parts_that_are_no_objects(tokens, part):
    assert tokens.verify(signed(header=part), NOW) is None
    assert tokens.verify(signed(payload=part), NOW) is None


def test_json_in_another_encoding_or_with_a_mark(tokens):
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        assert tokens.verify(signed(payload=json.dumps({**PAYLOAD, "Ünï": "x"}).encode(encoding)), NOW) is None
        assert tokens.verify(signed(header=json.dumps(HEADER).encode(encoding)), NOW) is None


def test_a_repeated_member(tokens):
    for name, value in HEADER.items():
        twice = json.dumps(HEADER)[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}"
        assert tokens.verify(signed(header=twice.encode()), NOW) is None
    for name, value in PAYLOAD.items():
        twice = json.dumps(PAYLOAD)[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}"
        assert tokens.verify(signed(payload=twice.encode()), NOW) is None


# ----- claims

OTHERS = {
    "iss": [None, "", 1, [ISSUER], ISSUER + "/", ISSUER.upper(), "https://evil.example"],
    "aud": [None, "", 1, [AUDIENCE], [AUDIENCE, "other"], AUDIENCE + " ", "other"],
    "sub": [None, "", 1, True, ["user-42"], "u" * 129, "a b", "a\n", "\x00", "\ud800", "\u200b", "\N{NO-BREAK SPACE}"],
    "dk": [
        None,
        "",
        1,
        PAYLOAD["dk"] + "==",
        PAYLOAD["dk"][:-1],
        PAYLOAD["dk"][:-1] + "x",
        "A" * 23,
        "A" * 20,
        "Ä" * 22,
    ],
    "sid": [
        None,
        "",
        1,
        "f" * 31,
        "f" * 33,
        "G" * 32,
        PAYLOAD["sid"].upper(),
        PAYLOAD["sid"] + "\n",
        "\N{ARABIC-INDIC DIGIT THREE}" * 32,
    ],
    "gen": [None, 0, -1, 2**32, True, False, 3.0, "3", [3], 10**400, 4],
    "jti": [
        None,
        "",
        1,
        PAYLOAD["jti"].upper(),
        PAYLOAD["jti"] + "\n",
        PAYLOAD["jti"] + "0",
        PAYLOAD["jti"][:-1],
        PAYLOAD["jti"][:-4],
        PAYLOAD["jti"][:-4] + "0000",
        PAYLOAD["jti"][:-4] + "-0ab",
        PAYLOAD["jti"][:-4] + "0x1f",
        PAYLOAD["jti"][:-4] + "1_23",
        PAYLOAD["jti"][:-4] + "00AB",
        PAYLOAD["jti"][:-4] + "\N{ARABIC-INDIC DIGIT THREE}" * 4,
        PAYLOAD["jti"].replace(".3.", ".03."),
        PAYLOAD["jti"].replace(".3.", ".4."),
        PAYLOAD["jti"].replace("f0f1", "f1f1"),
        "00ab",
        PAYLOAD["sid"],
    ],
    "iat": [None, "1", 1.5, 1772366400.0, True, -1, 10**12, 10**400, 2**63, "", [1]],
    "exp": [None, "1", 1.5, 1772366400.0, True, -1, 10**12, 10**400, 2**63, "", [1]],
    "auth_time": [None, "1", 1.5, 1772366400.0, True, -1, 10**12, 10**400, 2**63, "", [1]],
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_claim_that_is_missing(tokens, name):
    assert tokens.verify(signed(payload=without(PAYLOAD, name)), NOW) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in OTHERS.items() for value in values],
    ids=lambda part: ascii(part)[:40],
)
def test_a_claim_of_another_kind(tokens, name, value):
    assert value != PAYLOAD[name] or type(value) is not type(PAYLOAD[name])
    assert tokens.verify(signed(payload={**PAYLOAD, name: value}), NOW) is None


def test_every_claim_of_ours_is_in_that_table():
    assert OTHERS.keys() == PAYLOAD.keys() - {"amr", "tenant", "Ünï"}


@pytest.mark.parametrize(
    "amr", [None, "pwd", {}, {"pwd": 1}, [1], ["pwd", None], [["pwd"]], [""], ["a b"], ["a"] * 9, ["a" * 33]]
)
def test_methods_that_are_none(tokens, amr):
    assert tokens.verify(signed(payload={**PAYLOAD, "amr": amr}), NOW) is None


@pytest.mark.parametrize(
    ("session", "generation"),
    [
        (PAYLOAD["sid"], 0),
        (PAYLOAD["sid"], -1),
        (PAYLOAD["sid"], 2**32),
        (PAYLOAD["sid"][:-2], 3),
        (PAYLOAD["sid"] + "00", 3),
        (PAYLOAD["sid"] + "\n", 3),
        (PAYLOAD["sid"].upper(), 3),
        (" ".join([PAYLOAD["sid"][:16], PAYLOAD["sid"][16:]]), 3),
        ("", 3),
    ],
    ids=ascii,
)
def test_a_session_or_generation_that_can_not_be_though_jti_agrees(tokens, session, generation):
    payload = {**PAYLOAD, "sid": session, "gen": generation, "jti": f"{session}.{generation}.00ab"}
    assert tokens.verify(signed(payload=payload), NOW) is None


@pytest.mark.parametrize("generation", [1, 2**32 - 1])
def test_the_first_and_the_last_generation(tokens, generation):
    payload = {**PAYLOAD, "gen": generation, "jti": f"{PAYLOAD['sid']}.{generation}.00ab"}
    assert tokens.verify(signed(payload=payload), NOW) == replace(TOKEN, generation=generation)


def test_methods_may_be_absent(tokens):
    for payload in (without(PAYLOAD, "amr"), {**PAYLOAD, "amr": []}):
        assert tokens.verify(signed(payload=payload), NOW) == replace(TOKEN, auth_methods=())


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], {}, ["x"], "\ud800", "x\udfff"], ids=ascii)
def test_claims_of_the_caller_are_strings(tokens, value):
    assert tokens.verify(signed(payload={**PAYLOAD, "tenant": value}), NOW) is None


@pytest.mark.parametrize("name", ["scope", "roles", "azp", "\ud800"], ids=ascii)
def test_names_that_we_never_sign(tokens, name):
    assert tokens.verify(signed(payload={**PAYLOAD, name: "x"}), NOW) is None


def test_a_number_that_is_no_number(tokens):
    for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"01", b"+3", b"0x3"):
        payload = json.dumps(PAYLOAD).encode().replace(b'"gen": 3', b'"gen": ' + text)
        assert tokens.verify(signed(payload=payload), NOW) is None


def test_tokens_from_the_future(tokens):
    for ahead, good in {-(10**6): True, 0: True, 30: True, 31: False, 10**6: False}.items():
        payload = {**PAYLOAD, "iat": PAYLOAD["iat"] + ahead}
        assert (tokens.verify(signed(payload=payload), NOW) is not None) is good
    payload = {**PAYLOAD, "iat": PAYLOAD["iat"] + 31}
    assert tokens.verify(signed(payload=payload), NOW + SECOND - timedelta(microseconds=1)) is None
    assert tokens.verify(signed(payload=payload), NOW + SECOND) is not None


def test_a_start_is_obeyed_though_we_write_none(tokens):
    for ahead, good in {-(10**6): True, 30: True, 31: False}.items():
        payload = {**PAYLOAD, "nbf": PAYLOAD["iat"] + ahead}
        assert tokens.verify(signed(payload=payload), NOW) == (TOKEN if good else None)
    for value in (None, "1", 1.5, True, -1):
        assert tokens.verify(signed(payload={**PAYLOAD, "nbf": value}), NOW) is None


# ----- text


@pytest.fixture(scope="module")
def texts(tokens):
    """One good token for each algorithm."""
    return {a: compact(header_of(key), PAYLOAD, key.sign) for a, key in KEYS.items()}


@ALL
def test_a_token_has_one_text(tokens, texts, algorithm):
    text = texts[algorithm]
    header, payload, signature = text.split(".")
    assert tokens.verify(text, NOW) == TOKEN
    variants = [text + end for end in ("=", "==", ".", ".AAAA", "\n", " ", "\x00", "A", "AAAA", "%3D", "\ud800")]
    variants += [start + text for start in (" ", "\n", "=", ".", "Bearer ", "\ufeff")]
    variants += [
        f"{header}=.{payload}.{signature}",
        f"{header}.{payload}==.{signature}",
        f"{header}.{payload}={signature}",
    ]
    variants += [
        f"{header}..{signature}",
        f".{payload}.{signature}",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        header,
    ]
    variants += [
        f"{header}.{payload}\n.{signature}",
        f"{header}. {payload}.{signature}",
        f"{header}.{payload}.!!!!{signature}",
    ]
    variants += [text.replace("-", "+").replace("_", "/") + "\u200b", text.upper(), text.lower(), text[::-1]]
    variants += [json.dumps({"protected": header, "payload": payload, "signature": signature})]
    for variant in variants:
        assert tokens.verify(variant, NOW) is None, variant


def test_the_other_base64_alphabet(tokens):
    """Decoders that take "+" and "/" for "-" and "_" would give one token many texts."""
    for copy in range(0x10, 0x30):
        text = signed(payload={**PAYLOAD, "jti": f"{PAYLOAD['sid']}.3.{copy:04x}"})
        other = text.replace("-", "+").replace("_", "/")
        assert tokens.verify(text, NOW) is not None
        assert other == text or tokens.verify(other, NOW) is None


@ALL
def test_a_cut_token(tokens, texts, algorithm):
    for length in range(len(texts[algorithm])):
        assert tokens.verify(texts[algorithm][:length], NOW) is None


@ALL
def test_a_flipped_bit(tokens, texts, algorithm):
    text = texts[algorithm]
    for place, character in enumerate(text):
        for bit in range(8):
            flipped = f"{text[:place]}{chr(ord(character) ^ 1 << bit)}{text[place + 1 :]}"
            assert tokens.verify(flipped, NOW) is None, (place, bit)


def test_unused_bits(tokens, texts):
    """The last character of a segment holds bits that no byte needs: a decoder that ignores them takes any of a few."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for text in texts.values():
        ends = [place - 1 for place, character in enumerate(text + ".") if character == "."]
        for place in ends:
            for character in alphabet.replace(text[place], ""):
                assert tokens.verify(f"{text[:place]}{character}{text[place + 1 :]}", NOW) is None


def test_a_token_of_4_kib_and_one_more(tokens):
    payload = {**PAYLOAD, "pad": ""}
    short = 4096 - len(signed(payload=payload))
    sizes = {}
    for length in range(short * 3 // 4 - 5, short * 3 // 4 + 5):
        text = signed(payload={**payload, "pad": "x" * length})
        sizes[len(text)] = tokens.verify(text, NOW) is not None
    assert sizes[4096]
    assert {size: size <= 4096 for size in sizes} == sizes


def test_a_huge_text_is_not_even_looked_at(tokens):
    for text in ("a" * 10_000_000, "." * 10_000_000, "A." * 5_000_000, "\ud800" * 10_000_000):
        assert tokens.verify(text, NOW) is None


def test_deep_nesting_below_a_deep_stack(tokens):
    """The parser's own depth adds to that of whoever calls us."""

    def dive(depth):
        return tokens.verify(signed(payload=b'{"a":' * 500), NOW) if depth == 0 else dive(depth - 1)

    assert dive(sys.getrecursionlimit() - 300) is None


# With the halves of characters (Cs), which no encoding can write.
characters = st.characters() | st.characters(categories=["Cs"])
anything = st.text(characters, max_size=200)


@settings(deadline=None)
@given(
    text=anything | st.text("abcXYZ019-_.=", max_size=200) | st.lists(anything, min_size=3, max_size=3).map(".".join)
)
def test_no_text_makes_it_stumble(tokens, text):
    assert tokens.verify(text, NOW) is None


@settings(deadline=None)
@given(data=st.data())
def test_no_mutation_is_a_token(tokens, texts, data):
    text = texts[data.draw(st.sampled_from(Algorithm))]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 20, len(text))))
    mutated = text[:start] + data.draw(anything | st.text("AQgwx0-_.=", max_size=20)) + text[end:]
    assert tokens.verify(mutated, NOW) == (TOKEN if mutated == text else None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(characters),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    payload=st.dictionaries(st.sampled_from([*PAYLOAD, "nbf", "scope"]) | st.text(max_size=5), json_values, max_size=4),
    header=st.dictionaries(st.sampled_from([*HEADER, "crit", "b64"]), json_values, max_size=2),
)
def test_nothing_that_is_signed_makes_it_stumble(tokens, payload, header):
    for text in (signed(payload=payload), signed(payload={**PAYLOAD, **payload}), signed(header={**HEADER, **header})):
        token = tokens.verify(text, NOW)
        if token is not None:
            tokens.sign(token)
