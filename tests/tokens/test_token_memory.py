"""The data that is kept with a verified token, and is forgotten with it."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace

import pytest

from session_authority.tokens import KeySource, Tokens, promote, revoke
from session_authority.tokens.keys import SigningKey
from tests.tokens.harness import (
    AUDIENCE,
    DAY,
    ISSUER,
    LIFETIME,
    NOW,
    TOKEN,
    key_named,
    save,
    tokens_of,
)


@pytest.fixture
def keys(tmp_path):
    """A folder with a signing key and a published key."""
    return save(tmp_path / "keys", key_named("current", NOW - DAY), key_named("next"))


def test_data_kept_with_a_token_is_found_without_checking_its_signature(keys, monkeypatch):
    tokens = tokens_of(keys)
    text = tokens.sign(TOKEN)
    assert tokens.recall(text, NOW) is None
    assert tokens.verify(text, NOW) == TOKEN
    assert tokens.recall(text, NOW) is None
    tokens.keep(text, "first", 10)
    tokens.keep(text, "second", 10)
    monkeypatch.setattr(SigningKey, "verify", None)
    assert tokens.recall(text, NOW) == "second"
    assert tokens.verify(text, NOW) == TOKEN


@pytest.mark.parametrize("text", ["", "no token", "\N{SNAKE}", "\ud800", "x" * 5000])
def test_nothing_is_kept_for_a_text_that_is_no_token(keys, text):
    tokens = tokens_of(keys)
    assert tokens.verify(text, NOW) is None
    tokens.keep(text, "kept", 10)
    assert tokens.recall(text, NOW) is None


def test_another_text_of_the_same_token_finds_nothing(keys):
    tokens = tokens_of(keys)
    text = tokens.sign(TOKEN)
    tokens.verify(text, NOW)
    tokens.keep(text, "kept", 10)
    assert tokens.recall(text + "=", NOW) is None
    assert tokens.recall(f"{text[:-1]}\N{SNAKE}", NOW) is None


def test_nothing_is_found_for_a_token_of_a_revoked_key(keys):
    source = KeySource(keys)
    tokens = Tokens(source, ISSUER, AUDIENCE, LIFETIME)
    text = tokens.sign(TOKEN)
    tokens.verify(text, NOW)
    tokens.keep(text, "kept", 10)
    promote(keys, "next", NOW)
    revoke(keys, "current", NOW)
    source.refresh()
    assert tokens.recall(text, NOW) is None


def test_kept_data_is_forgotten_when_keys_change(keys):
    source = KeySource(keys)
    tokens = Tokens(source, ISSUER, AUDIENCE, LIFETIME)
    text = tokens.sign(TOKEN)
    tokens.verify(text, NOW)
    tokens.keep(text, "kept", 10)
    promote(keys, "next", NOW)
    source.refresh()
    assert tokens.recall(text, NOW) is None
    assert tokens.verify(text, NOW) == TOKEN
    assert tokens.recall(text, NOW) is None


def test_nothing_is_found_once_a_demoted_key_no_longer_verifies(keys):
    promote(keys, "next", NOW)
    alone = save(keys.parent / "alone", key_named("current", NOW - DAY))
    tokens, text = tokens_of(keys), tokens_of(alone).sign(TOKEN)
    assert tokens.verify(text, NOW) == TOKEN
    tokens.keep(text, "kept", 10)
    assert tokens.recall(text, NOW + LIFETIME - DAY / 24) == "kept"
    assert tokens.recall(text, NOW + LIFETIME) is None


def test_kept_data_counts_towards_the_memory(keys):
    memory, kept = 2**18, 2**11
    tokens = Tokens(KeySource(keys), ISSUER, AUDIENCE, LIFETIME, memory_bytes=memory)
    texts = [tokens.sign(replace(TOKEN, copy=copy)) for copy in range(1, 401)]
    tokens.verify(texts[0], NOW)
    gc.collect()
    tracemalloc.start()
    try:
        for text in texts:
            for _ in range(3):  # What was kept before is dropped.
                tokens.verify(text, NOW)
                tokens.keep(text, bytes(kept), kept + 100)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert memory / 2 < held <= memory
    recalled = [tokens.recall(text, NOW) for text in texts]
    assert recalled[-1] == bytes(kept)
    assert recalled[0] is None


def test_data_that_is_too_large_is_not_kept(keys):
    tokens = Tokens(KeySource(keys), ISSUER, AUDIENCE, LIFETIME, memory_bytes=2**16)
    text = tokens.sign(TOKEN)
    tokens.verify(text, NOW)
    tokens.keep(text, "small", 10)
    tokens.keep(text, "large", 2**16)
    assert tokens.recall(text, NOW) == "small"


def test_tokens_that_have_ended_are_forgotten_as_others_arrive(keys):
    """This happens even where there is space: otherwise a server's memory fills with them."""
    tokens, now, lifetime = tokens_of(keys), NOW, TOKEN.expires_at - TOKEN.issued_at
    for number in range(200):
        now += lifetime / 10
        fresh = replace(TOKEN, copy=number + 1, issued_at=now, expires_at=now + lifetime)
        assert tokens.verify(tokens.sign(fresh), now) is not None
    held = len(tokens._remembered)
    assert 10 <= held <= 12, "the tokens that are good, with the leeway"


def test_an_ended_token_that_is_presented_again_keeps_no_others_in_memory(keys, monkeypatch):
    """The memory first forgets the ended token that was not used for the longest time. An old token
    that is presented again and again, as for renewal, must not keep the others in memory.
    """
    tokens, now, lifetime = tokens_of(keys), NOW, TOKEN.expires_at - TOKEN.issued_at
    old = tokens.sign(TOKEN)
    for number in range(100):
        now += lifetime / 10
        assert tokens.verify(old, now) is not None
        fresh = replace(TOKEN, copy=number + 1, issued_at=now, expires_at=now + lifetime)
        assert tokens.verify(tokens.sign(fresh), now) is not None
    assert len(tokens._remembered) <= 13
