"""Every text that is no token of the service is refused, and no text makes the verifier fail."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.tokens import MAX_TOKEN_BYTES, Algorithm, codec
from session_authority.tokens.keys import SigningKey
from tests.tokens.forged_claims import claim_variants
from tests.tokens.forger import KEYS, SECRET, Victim, flipped_bits, ring, without
from tests.tokens.forgeries import KINDS, forgeries, over, twins
from tests.tokens.harness import NOW, PAYLOAD, SECOND, TOKEN, header_of, save, tokens_of

ALL = pytest.mark.parametrize("algorithm", Algorithm, ids=lambda algorithm: algorithm.value)
HEADER = header_of(SECRET)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """The `Tokens` of the ring that the forgeries are made against."""
    return tokens_of(save(tmp_path_factory.mktemp("keys"), *ring(NOW)))


@pytest.fixture(scope="module")
def victim(tokens):
    """The user whose token is TOKEN."""
    return Victim.of(tokens.sign(TOKEN))


@pytest.fixture(scope="module")
def texts(victim):
    """One good token for each algorithm."""
    return victim.real_ones()


# ----- the forgeries


def test_the_forger_can_make_a_real_token(tokens, victim, texts):
    """Otherwise the other tests would prove nothing."""
    assert (dict(victim.payload), victim.now) == (PAYLOAD, NOW)
    for text in (victim.text, *texts.values()):
        assert tokens.verify(text, NOW) == TOKEN


@pytest.mark.parametrize("kind", KINDS)
def test_no_forgery_is_a_token(tokens, victim, kind):
    made = list(KINDS[kind](victim))
    assert made
    assert [name for name, text in made if tokens.verify(text, NOW) is not None] == []


def test_every_forgery_is_there_once_and_is_no_real_token(victim, texts):
    made = [(kind, name, text) for kind, name, text in forgeries(victim)]
    names = Counter((kind, name) for kind, name, _ in made)
    assert [name for name, count in names.items() if count > 1] == []
    real = {victim.text, *texts.values(), *(text for _, text in (*twins(victim), *over(victim)))}
    assert [(kind, name) for kind, name, text in made if text in real or not text] == []
    assert len({text for _, _, text in made}) > 2000


def test_every_claim_of_the_service_has_forgeries():
    assert claim_variants(PAYLOAD).keys() == PAYLOAD.keys() - {"amr", "tenant", "Ünï"}


def test_another_text_of_a_real_token_is_the_same_token(tokens, victim):
    for name, text in twins(victim):
        assert tokens.verify(text, NOW) == TOKEN, name


def test_an_old_token_is_recognised(tokens, victim):
    for name, text in over(victim):
        token = tokens.verify(text, NOW)
        assert token is not None, name
        assert token.expires_at < NOW


# ----- what a forgery costs


@pytest.fixture
def work(monkeypatch):
    """The verifier's work, step by step."""
    done = []
    for name in ("decode_base64url", "decode_json_object"):
        do = getattr(codec, name)

        def step(value, name=name, do=do):
            done.append(name)
            return do(value)

        monkeypatch.setattr(codec, name, step)
    verify = SigningKey.verify

    def noted(self, data, signature):
        good = verify(self, data, signature)
        done.append("a good signature" if good else "a bad signature")
        return good

    monkeypatch.setattr(SigningKey, "verify", noted)
    return done


def test_a_text_that_is_too_long_is_not_decoded(tokens, victim, work):
    long = [(name, text) for _, name, text in forgeries(victim) if len(text) > MAX_TOKEN_BYTES]
    assert len(long) > 15
    work.clear()  # Drops the forger's work.
    for name, text in long:
        assert tokens.verify(text, NOW) is None, name
        assert work == [], name


def test_at_most_one_signature_is_checked_and_only_signed_text_is_read(tokens, victim, work):
    whole = ["decode_base64url", "decode_json_object", "decode_base64url", "a good signature"]
    whole += ["decode_base64url", "decode_json_object"]
    whole += ["decode_base64url"]  # The device key.
    for kind, name, text in forgeries(victim):
        tokens._headers.clear()  # a header that is known is not read again
        work.clear()
        assert tokens.verify(text, NOW) is None
        expected = (
            [step.replace("good", "bad") for step in whole[:4]]
            if "a bad signature" in work
            else whole
        )
        assert work == expected[: len(work)], (kind, name)


def test_a_forgery_is_not_remembered(tokens, victim):
    """A remembered forgery would take the place of a token that is used."""
    before = len(tokens._remembered)
    tokens._headers.clear()
    for _, _, text in forgeries(victim):
        tokens.verify(text, NOW)
    assert len(tokens._remembered) == before
    assert tokens._headers == {}


def test_a_header_is_read_once_for_all_tokens_of_a_key(tokens, victim, work):
    tokens._headers.clear()
    for generation in range(101, 104):
        text = tokens.sign(replace(TOKEN, generation=generation))
        work.clear()
        assert tokens.verify(text, NOW) == replace(TOKEN, generation=generation)
        assert work.count("decode_json_object") == (2 if generation == 101 else 1)


# --- just good enough -----------------------------------------------------------------------------


def test_a_key_has_one_algorithm(tokens, victim):
    """Whatever algorithm the header names, only the key's own algorithm counts."""
    for key in KEYS.values():
        for claimed in Algorithm:
            text = victim.signed({**header_of(key), "alg": claimed.value}, key=key)
            assert (tokens.verify(text, NOW) is not None) is (claimed is key.algorithm)


@pytest.mark.parametrize("generation", [1, 2**32 - 1])
def test_the_first_and_the_last_generation_are_good(tokens, victim, generation):
    text = victim.saying(gen=generation, jti=f"{PAYLOAD['sid']}.{generation}.00ab")
    assert tokens.verify(text, NOW) == replace(TOKEN, generation=generation)


def test_methods_may_be_absent(tokens, victim):
    for payload in (without(PAYLOAD, "amr"), {**PAYLOAD, "amr": []}):
        assert tokens.verify(victim.signed(payload=payload), NOW) == replace(TOKEN, auth_methods=())


def test_a_token_from_the_future_is_refused(tokens, victim):
    for ahead, good in {-(10**6): True, 0: True, 30: True, 31: False, 10**6: False}.items():
        text = victim.saying(iat=PAYLOAD["iat"] + ahead, exp=PAYLOAD["exp"] + ahead)
        assert (tokens.verify(text, NOW) is not None) is good
    text = victim.saying(iat=PAYLOAD["iat"] + 31)
    assert tokens.verify(text, NOW + SECOND - timedelta(microseconds=1)) is None
    assert tokens.verify(text, NOW + SECOND) is not None


def test_a_token_may_end_in_the_second_in_which_it_begins_but_not_before(tokens, victim):
    """A session's last renewal may be in its last second, and times are cut to seconds."""
    for later, good in {-1: False, 0: True, 1: True}.items():
        assert (tokens.verify(victim.saying(exp=PAYLOAD["iat"] + later), NOW) is not None) is good


def test_a_nbf_claim_is_obeyed_although_the_service_writes_none(tokens, victim):
    for ahead, good in {-(10**6): True, 30: True, 31: False}.items():
        text = victim.saying(nbf=PAYLOAD["iat"] + ahead)
        assert tokens.verify(text, NOW) == (TOKEN if good else None)


def test_a_token_of_4_kib_is_good_and_a_longer_one_is_not(tokens, victim):
    sizes = {}
    for key in KEYS.values():  # Base64 has no text of some sizes: which sizes depends on the rest.
        short = MAX_TOKEN_BYTES - len(victim.signed(payload={**PAYLOAD, "pad": ""}, key=key))
        for length in range(short * 3 // 4 - 5, short * 3 // 4 + 5):
            text = victim.signed(payload={**PAYLOAD, "pad": "x" * length}, key=key)
            sizes[len(text)] = tokens.verify(text, NOW) is not None
    assert sizes.keys() >= {MAX_TOKEN_BYTES, MAX_TOKEN_BYTES + 1}
    assert {size: size <= MAX_TOKEN_BYTES for size in sizes} == sizes


# ----- many texts of each kind


@ALL
def test_a_cut_token_is_refused(tokens, texts, algorithm):
    for length in range(len(texts[algorithm])):
        assert tokens.verify(texts[algorithm][:length], NOW) is None


@ALL
def test_a_flipped_bit_is_refused(tokens, texts, algorithm):
    for name, flipped in flipped_bits(texts[algorithm]):
        assert tokens.verify(flipped, NOW) is None, name


def test_a_changed_unused_bit_is_refused(tokens, texts):
    """The last character of a segment has bits that no byte needs: a decoder that ignores them
    accepts several characters.
    """
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for text in texts.values():
        ends = [position - 1 for position, character in enumerate(text + ".") if character == "."]
        for position in ends:
            for character in alphabet.replace(text[position], ""):
                assert (
                    tokens.verify(f"{text[:position]}{character}{text[position + 1 :]}", NOW)
                    is None
                )


def test_deep_nesting_below_a_deep_stack_is_refused(tokens, victim):
    """The parser's own depth adds to the caller's depth."""

    def dive(depth):
        return (
            tokens.verify(victim.signed(payload=b'{"a":' * 500), NOW)
            if depth == 0
            else dive(depth - 1)
        )

    assert dive(sys.getrecursionlimit() - 300) is None


# With surrogates (category Cs), which UTF-8 cannot encode.
characters = st.characters() | st.characters(categories=["Cs"])
anything = st.text(characters, max_size=200)


@given(
    text=anything
    | st.text("abcXYZ019-_.=", max_size=200)
    | st.lists(anything, min_size=3, max_size=3).map(".".join)
)
def test_no_text_makes_the_verifier_fail(tokens, text):
    assert tokens.verify(text, NOW) is None


@given(data=st.data())
def test_no_mutation_is_a_token(tokens, texts, data):
    text = texts[data.draw(st.sampled_from(Algorithm))]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 20, len(text))))
    mutated = text[:start] + data.draw(anything | st.text("AQgwx0-_.=", max_size=20)) + text[end:]
    assert tokens.verify(mutated, NOW) == (TOKEN if mutated == text else None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(characters),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    payload=st.dictionaries(
        st.sampled_from([*PAYLOAD, "nbf", "scope"]) | st.text(max_size=5), json_values, max_size=4
    ),
    header=st.dictionaries(st.sampled_from([*HEADER, "crit", "b64"]), json_values, max_size=2),
)
def test_no_signed_text_makes_the_verifier_fail(tokens, victim, payload, header):
    for text in (
        victim.signed(payload=payload),
        victim.signed(payload={**PAYLOAD, **payload}),
        victim.signed({**HEADER, **header}),
    ):
        token = tokens.verify(text, NOW)
        if token is not None:
            tokens.sign(token)
