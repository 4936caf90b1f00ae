"""How a token is signed and verified: its claims, which keys verify it, which key signs, and which
tokens are remembered.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey

from session_authority.domain.fields import (
    MAX_AUTH_METHODS,
    MAX_USER_ID_CHARACTERS,
    RESERVED_CLAIMS,
)
from session_authority.domain.sessions import MAX_COPY, Token
from session_authority.domain.text import is_name
from session_authority.tokens import (
    MAX_TOKEN_BYTES,
    Algorithm,
    KeyringError,
    KeySource,
    Tokens,
    TokenTooLarge,
    promote,
    revoke,
)
from session_authority.tokens.keyfiles import fingerprint
from session_authority.tokens.keys import SigningKey
from tests.tokens.harness import (
    AUDIENCE,
    DAY,
    HOUR,
    ISSUER,
    LIFETIME,
    NOW,
    PAYLOAD,
    SECOND,
    TOKEN,
    base64url,
    header_of,
    key_named,
    material,
    save,
    tokens_of,
)

TICK = timedelta(microseconds=1)
ALL = pytest.mark.parametrize("algorithm", Algorithm, ids=lambda algorithm: algorithm.value)


@pytest.fixture
def keys(tmp_path):
    """A folder with a signing key, a key that it demoted a day ago, and a published key."""
    return save(
        tmp_path / "keys",
        key_named("old", NOW - 9 * DAY),
        key_named("current", NOW - DAY),
        key_named("next"),
    )


@pytest.fixture
def verifications(monkeypatch):
    """The signatures that were really verified."""
    seen = []
    verify = SigningKey.verify

    def noted(self, data, signature):
        seen.append(signature)
        return verify(self, data, signature)

    monkeypatch.setattr(SigningKey, "verify", noted)
    return seen


# --- the claims of a token ------------------------------------------------------------------------


@ALL
def test_a_token_is_read_back(tmp_path, algorithm):
    tokens = tokens_of(save(tmp_path, key_named("k", NOW, algorithm=algorithm)))
    text = tokens.sign(TOKEN)
    for _ in range(2):
        assert tokens.verify(text, NOW) == TOKEN


# RFC 9864 renames EdDSA to Ed25519. Few libraries know the new name so far.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@ALL
def test_another_library_verifies_a_token(tmp_path, algorithm):
    key = key_named("k", NOW, algorithm=algorithm)
    source = KeySource(save(tmp_path, key))
    text = Tokens(source, ISSUER, AUDIENCE, LIFETIME).sign(TOKEN)
    if isinstance(key.private, bytes):
        opened = jwt.decode(text, OctKey.import_key(key.private), [algorithm.value])
    else:
        jwks: Any = {"keys": source.current.public_jwks()}
        opened = jwt.decode(text, KeySet.import_key_set(jwks), [algorithm.value])
    assert opened.header == header_of(key)
    assert opened.claims == PAYLOAD


def test_the_payload_of_a_token_is_the_shortest_json(keys):
    header, payload, _ = tokens_of(keys).sign(TOKEN).split(".")
    assert header == base64url(b'{"alg":"HS256","kid":"current","typ":"at+jwt"}')
    assert payload == base64url(
        json.dumps(PAYLOAD, separators=(",", ":"), ensure_ascii=False).encode()
    )


def test_without_auth_methods_there_is_no_amr(keys):
    tokens = tokens_of(keys)
    token = replace(TOKEN, auth_methods=(), claims={})
    text = tokens.sign(token)
    assert tokens.verify(text, NOW) == token
    without = {
        name: value for name, value in PAYLOAD.items() if name not in ("amr", "tenant", "Ünï")
    }
    assert text.split(".")[1] == base64url(json.dumps(without, separators=(",", ":")).encode())


def test_times_are_cut_to_seconds(keys):
    tokens = tokens_of(keys)
    late = timedelta(microseconds=999_999)
    token = replace(
        TOKEN, issued_at=NOW + late, expires_at=NOW + HOUR + late, signed_in_at=NOW - DAY + late
    )
    assert tokens.verify(tokens.sign(token), NOW) == TOKEN
    far = datetime.max.replace(tzinfo=NOW.tzinfo)
    assert tokens.verify(tokens.sign(replace(TOKEN, expires_at=far)), NOW) == replace(
        TOKEN, expires_at=far - late
    )


@pytest.mark.parametrize("name", sorted(RESERVED_CLAIMS))
def test_reserved_claims_are_refused(keys, name):
    with pytest.raises(ValueError, match=f"reserved claims: {name}"):
        tokens_of(keys).sign(replace(TOKEN, claims={name: "x"}))


def test_claims_of_a_remembered_token_cannot_be_changed(keys):
    tokens = tokens_of(keys)
    token = tokens.verify(tokens.sign(TOKEN), NOW)
    assert token is not None
    with pytest.raises(TypeError):
        token.claims["tenant"] = "other"  # type: ignore[index]


def test_without_a_signing_key_no_token_is_signed(tmp_path):
    with pytest.raises(KeyringError, match="no signing key"):
        tokens_of(save(tmp_path, key_named("published"))).sign(TOKEN)


def test_the_caller_decides_whether_a_token_has_ended(keys):
    tokens = tokens_of(keys)
    assert tokens.verify(tokens.sign(TOKEN), NOW + 3 * DAY) == TOKEN


seconds = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0, tzinfo=NOW.tzinfo)
)
names = st.text("abcXYZ019_-.:/", min_size=1, max_size=20)


honest_tokens = st.builds(
    Token,
    user_id=st.text(
        st.characters(categories=("L", "N", "P", "S")),
        min_size=1,
        max_size=MAX_USER_ID_CHARACTERS,
    ).filter(is_name),
    device_key=st.binary(min_size=16, max_size=16),
    session_id=st.binary(min_size=16, max_size=16),
    generation=st.integers(1, 2**32 - 1),
    copy=st.integers(1, MAX_COPY),
    issued_at=st.integers(0, 10**9).map(lambda past: NOW - past * SECOND),
    expires_at=seconds,
    signed_in_at=seconds,
    claims=st.dictionaries(
        names.filter(lambda name: name not in RESERVED_CLAIMS), st.text(max_size=50), max_size=3
    ),
    auth_methods=st.lists(names, max_size=MAX_AUTH_METHODS).map(tuple),
)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return tokens_of(
        save(tmp_path_factory.mktemp("keys"), key_named("k", NOW, algorithm=Algorithm.EDDSA))
    )


@given(token=honest_tokens)
def test_every_valid_token_is_read_back(tokens, token):
    # The caller of `sign` knows that a token does not end before it begins.
    honest = replace(token, expires_at=max(token.expires_at, token.issued_at))
    assert tokens.verify(tokens.sign(honest), NOW) == honest


# ----- size


def test_the_largest_tokens_fit(tmp_path):
    """Claims that fit at the sign-in fit in every later token, whichever key signs. Long claims fit
    beside long methods, or beside a long user ID. JSON may write a character with six bytes, and
    claims of such characters may not fit.
    """
    private = generate_private_key(public_exponent=65537, key_size=4096)
    longest = replace(
        material(Algorithm.RS256),
        kid="k" * 128,
        promoted_at=NOW,
        private=private,
        public=private.public_key(),
    )
    tokens = tokens_of(save(tmp_path, longest))
    plain = {f"claim-{i}": "v" * 110 for i in range(8)}
    for fields in (
        {"user_id": "\U0001f600" * 128, "auth_methods": ("m" * 32,) * MAX_AUTH_METHODS},
        {"user_id": "u" * MAX_USER_ID_CHARACTERS, "auth_methods": ("m" * 80,) * MAX_AUTH_METHODS},
        {"user_id": "\U0001f600" * 240},
    ):
        largest = replace(TOKEN, **fields, claims=plain)
        tokens.check_room(largest)
        text = tokens.sign(replace(largest, generation=2**32 - 1))
        assert len(text) <= 4000
        assert tokens.verify(text, NOW) is not None
    # The limit is exact to the byte, or nearly: base64url has no text of some lengths.
    for length in range(740, 840):
        largest = replace(TOKEN, user_id="u" * 255, claims={"c": "x" * length, **plain})
        size = len(tokens.sign(replace(largest, generation=2**32 - 1)))
        if size <= 4000:
            tokens.check_room(largest)
        else:
            with pytest.raises(TokenTooLarge, match=f"could have {size} bytes; the limit is 4000"):
                tokens.check_room(largest)


@pytest.mark.parametrize("claims", [{"c": "\x00" * 1023}, {"c": '"' * 1800}])
def test_a_token_that_is_too_large_is_not_signed(keys, claims):
    largest = replace(TOKEN, user_id="\U0001f600" * MAX_USER_ID_CHARACTERS, claims=claims)
    with pytest.raises(TokenTooLarge, match="the limit is 4096") as caught:
        tokens_of(keys).sign(largest)
    assert caught.value.size > MAX_TOKEN_BYTES


def test_a_token_of_exactly_4_kib_is_good(tmp_path):
    sizes = {}
    # Base64url has no text of some lengths. With one of these headers it has a text of 4,096.
    for kid in ("k", "kk", "kkk"):
        tokens = tokens_of(save(tmp_path / kid, key_named(kid, NOW)))
        for length in range(2700, 2730):
            token = replace(TOKEN, claims={"c": "x" * length})
            try:
                text = tokens.sign(token)
            except TokenTooLarge as error:
                sizes[error.size] = False
            else:
                sizes[len(text)] = tokens.verify(text, NOW) == token
    assert sizes[MAX_TOKEN_BYTES]
    assert sizes == {size: size <= MAX_TOKEN_BYTES for size in sizes}
    assert min(sizes) < MAX_TOKEN_BYTES < max(sizes)


# --- keys and remembered tokens -------------------------------------------------------------------


def old_text(keys, kid):
    """A token that the key signed when it was the signing key."""
    alone = keys.parent / f"{kid}-alone"
    return tokens_of(save(alone, key_named(kid, NOW - 9 * DAY))).sign(TOKEN)


def test_published_and_demoted_keys_verify(keys):
    tokens = tokens_of(keys)
    for kid in ("old", "current", "next"):
        assert tokens.verify(old_text(keys, kid), NOW) == TOKEN
    assert tokens.verify(old_text(keys, "other"), NOW) is None


@pytest.mark.parametrize("remembered", [False, True])
def test_a_demoted_key_verifies_for_one_token_lifetime(keys, remembered):
    tokens = tokens_of(keys)
    text = old_text(keys, "old")
    end = NOW - DAY + LIFETIME
    if remembered:
        assert tokens.verify(text, NOW) == TOKEN
    assert tokens.verify(text, end) is None
    assert tokens.verify(text, end + HOUR) is None
    assert tokens.verify(text, end - TICK) == TOKEN


def test_a_verified_token_is_remembered(keys, verifications):
    tokens = tokens_of(keys)
    text = tokens.sign(TOKEN)
    assert tokens.verify(text, NOW) is tokens.verify(text, NOW)
    assert len(verifications) == 1


def test_a_bad_token_is_not_remembered(keys, verifications):
    tokens = tokens_of(keys)
    text = tokens.sign(TOKEN)[:-4] + "AAAA"
    for count in (1, 2):
        assert tokens.verify(text, NOW) is None
        assert len(verifications) == count


# Claims that need much memory for their length: many strings, and characters of four bytes each.
COSTLY = {
    "plain": TOKEN,
    "many": replace(TOKEN, claims={f"{i:x}": "" for i in range(250)}),
    "wide": replace(TOKEN, claims={"text": "x" * 2400 + "\N{SNAKE}"}),
    "methods": replace(TOKEN, auth_methods=tuple(f"method{i}" for i in range(8))),
}


def test_the_longest_unused_token_is_forgotten_first(keys, verifications):
    tokens = Tokens(KeySource(keys), ISSUER, AUDIENCE, LIFETIME, memory_bytes=2**16)
    texts = [tokens.sign(replace(COSTLY["wide"], copy=copy)) for copy in range(1, 7)]
    for text in (*texts[:5], texts[0], texts[5], texts[0]):
        assert tokens.verify(text, NOW) is not None
    assert len(verifications) == 6
    assert tokens.verify(texts[1], NOW) is not None
    assert len(verifications) == 7


@pytest.mark.parametrize("kind", COSTLY)
def test_the_memory_is_bounded_in_bytes(keys, kind):
    memory = 2**18
    tokens = Tokens(KeySource(keys), ISSUER, AUDIENCE, LIFETIME, memory_bytes=memory)
    texts = [tokens.sign(replace(COSTLY[kind], copy=copy)) for copy in range(1, 401)]
    assert tokens.verify(texts[0], NOW) is not None
    gc.collect()
    tracemalloc.start()
    try:
        for text in texts:
            assert tokens.verify(text, NOW) is not None
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert memory / 2 < held <= memory


def test_the_memory_holds_at_least_one_token(keys):
    with pytest.raises(ValueError, match="memory_bytes"):
        Tokens(KeySource(keys), ISSUER, AUDIENCE, LIFETIME, memory_bytes=2**16 - 1)


def test_a_remembered_token_of_a_revoked_key_ends_at_once(keys):
    source = KeySource(keys)
    tokens = Tokens(source, ISSUER, AUDIENCE, LIFETIME)
    text = tokens.sign(TOKEN)
    assert tokens.verify(text, NOW) == TOKEN
    promote(keys, "next", NOW)
    revoke(keys, "current", NOW)
    source.refresh()
    assert tokens.verify(text, NOW) is None
    assert tokens.verify(tokens.sign(TOKEN), NOW) == TOKEN


def test_a_token_of_a_new_key_is_good_at_once(keys):
    """Another process may have been the first to see that a key was made and promoted."""
    slow = tokens_of(keys)
    save(keys, key_named("more", NOW))
    text = tokens_of(keys).sign(TOKEN)
    for _ in range(2):
        assert slow.verify(text, NOW) == TOKEN


def test_tokens_of_invented_keys_cause_a_limited_number_of_reads(keys, monkeypatch):
    tokens = tokens_of(keys)
    looks = []

    def noted(path):
        looks.append(path)
        return fingerprint(path)

    monkeypatch.setattr("session_authority.tokens.keyring.fingerprint", noted)
    stranger = tokens_of(
        save(keys.parent / "strangers", key_named("made-up", NOW, algorithm=Algorithm.EDDSA))
    )
    text = stranger.sign(TOKEN)
    good = tokens.sign(TOKEN)
    for number in range(1000):  # In one second.
        now = NOW + number * timedelta(milliseconds=1)
        assert tokens.verify(text, now) is None
        assert tokens.verify(good, now) == TOKEN
    assert len(looks) == 11, "ten, and one by the stranger who made up the token"


def test_remembered_tokens_are_forgotten_when_keys_change(keys, verifications):
    """Otherwise a key that came back under an old name with other material would vouch for tokens
    that it never signed.
    """
    source = KeySource(keys)
    tokens = Tokens(source, ISSUER, AUDIENCE, LIFETIME)
    text = tokens.sign(TOKEN)
    assert tokens.verify(text, NOW) == TOKEN
    save(keys, replace(key_named("other", NOW - DAY), kid="current"))
    source.refresh()
    assert tokens.verify(text, NOW) is None
    assert len(verifications) == 2


def test_a_remembered_token_is_not_checked_again_for_a_time_in_the_future(keys, verifications):
    tokens = tokens_of(keys)
    text = tokens.sign(replace(TOKEN, issued_at=NOW + 31 * SECOND))
    assert tokens.verify(text, NOW) is None
    assert tokens.verify(text, NOW + SECOND) is not None
    assert tokens.verify(text, NOW) is not None
    assert len(verifications) == 2
