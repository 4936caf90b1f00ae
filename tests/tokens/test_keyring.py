"""Which key signs and which keys verify: both follow from the times in the keys."""

from __future__ import annotations

from datetime import timedelta

import pytest

from session_authority.tokens import Algorithm, Keyring, KeyringError, KeyState
from tests.tokens.harness import DAY, LIFETIME, NOW, key_named

TICK = timedelta(microseconds=1)
FIRST, SECOND, THIRD = NOW, NOW + 10 * DAY, NOW + 20 * DAY


def test_states_follow_from_times():
    ring = Keyring(
        [
            key_named("new"),
            key_named("now", THIRD),
            key_named("before", SECOND),
            key_named("long-ago", FIRST),
            key_named("leaked", SECOND + DAY, revoked=THIRD),
        ]
    )
    assert {key.kid: ring.state(key.kid) for key in ring.keys} == {
        "new": KeyState.PUBLISHED,
        "now": KeyState.SIGNING,
        "before": KeyState.VERIFYING,
        "long-ago": KeyState.VERIFYING,
        "leaked": KeyState.REVOKED,
    }
    assert ring.signing.kid == "now"
    assert {key.kid: ring.demoted(key.kid) for key in ring.keys} == {
        "new": None,
        "now": None,
        "before": THIRD,
        "long-ago": SECOND,
        "leaked": None,
    }


def test_the_order_of_keys_does_not_matter():
    keys = [key_named("a", FIRST), key_named("b", SECOND), key_named("c", THIRD)]
    for ring in (Keyring(keys), Keyring(reversed(keys))):
        assert ring.signing.kid == "c"
        assert (ring.demoted("a"), ring.demoted("b")) == (SECOND, THIRD)


def test_two_promotions_at_one_moment_leave_one_signing_key():
    for keys in (
        [key_named("a", NOW), key_named("b", NOW)],
        [key_named("b", NOW), key_named("a", NOW)],
    ):
        ring = Keyring(keys)
        assert [ring.state("a"), ring.state("b")] == [KeyState.VERIFYING, KeyState.SIGNING]


def test_after_a_signing_key_is_revoked_the_one_before_signs():
    ring = Keyring([key_named("a", FIRST), key_named("b", SECOND, revoked=SECOND + DAY)])
    assert ring.signing.kid == "a"
    assert ring.demoted("a") is None
    assert ring.verifier("b", SECOND, LIFETIME) is None


@pytest.mark.parametrize("keys", [[], [key_named("a")], [key_named("a", NOW, revoked=NOW)]])
def test_without_a_promoted_key_no_key_signs(keys):
    with pytest.raises(KeyringError, match="no signing key"):
        _ = Keyring(keys).signing


def test_a_key_id_is_used_once():
    with pytest.raises(KeyringError, match="same kid"):
        Keyring([key_named("a"), key_named("a", NOW)])


@pytest.mark.parametrize("ask", [Keyring.state, Keyring.demoted, Keyring.key])
def test_an_unknown_key_has_no_state(ask):
    with pytest.raises(KeyringError, match="no key 'other'"):
        ask(Keyring([key_named("a")]), "other")
    assert Keyring([key_named("a")]).verifier("other", NOW, LIFETIME) is None


def test_a_demoted_key_verifies_for_one_token_lifetime():
    ring = Keyring([key_named("a", FIRST), key_named("b", SECOND)])
    for moment, verifies in {
        FIRST - DAY: True,
        SECOND - TICK: True,
        SECOND: True,
        SECOND + LIFETIME - TICK: True,
        SECOND + LIFETIME: False,
        SECOND + LIFETIME + TICK: False,
    }.items():
        assert (ring.verifier("a", moment, LIFETIME) is not None) is verifies, moment
        assert ring.verifier("b", moment, LIFETIME) is ring.signing


def test_published_keys_verify():
    ring = Keyring([key_named("a"), key_named("b", NOW)])
    assert ring.verifier("a", NOW + 1000 * DAY, LIFETIME) is ring.key("a")


def test_a_key_that_a_faster_clock_promoted_signs_and_verifies():
    ring = Keyring([key_named("a", NOW), key_named("b", NOW + DAY)])
    assert ring.signing.kid == "b"
    assert ring.verifier("b", NOW, LIFETIME) is ring.signing
    assert ring.verifier("a", NOW, LIFETIME) is ring.key("a")


def test_the_public_keys_are_the_keys_that_are_not_revoked():
    ed = Algorithm.EDDSA
    ring = Keyring(
        [
            key_named("published", algorithm=ed),
            key_named("verifying", FIRST, algorithm=ed),
            key_named("signing", SECOND, algorithm=Algorithm.ES256),
            key_named("revoked", FIRST, revoked=SECOND, algorithm=ed),
            key_named("secret", algorithm=Algorithm.HS256),
        ]
    )
    assert {jwk["kid"] for jwk in ring.public_jwks()} == {"published", "verifying", "signing"}
