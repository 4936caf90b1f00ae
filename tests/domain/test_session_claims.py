"""The decision to change the claims of sessions: which sessions change, and what is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from session_authority.domain.session_claims import ClaimsChange, SessionClaims, change_claims
from session_authority.domain.sessions import SessionRecord, StoredClaims
from session_authority.domain.verdicts import judge
from tests.domain.samples import (
    DAY,
    ENDED,
    LAPTOP_KEY,
    LIMITS,
    MS,
    NOW,
    PHONE_KEY,
    SESSION,
    TABLET_KEY,
    record,
    token,
)

NEW = {"email": "new@example.org"}
NONE, IN_TOKENS, NEWER = StoredClaims
PHONE, LAPTOP = record(), record(session_id=b"l" * 16)
OVER = record(session_id=ENDED, last_seen_at=NOW - LIMITS.idle_timeout)


def change(
    sessions: dict[bytes, SessionRecord],
    key: bytes | None = None,
    stored: dict[bytes, SessionClaims] | None = None,
) -> ClaimsChange:
    return change_claims(
        sessions=sessions, stored=stored or {}, key=key, claims=NEW, limits=LIMITS, now=NOW
    )


def test_all_live_sessions_get_the_claims():
    changed = change({PHONE_KEY: PHONE, LAPTOP_KEY: LAPTOP, TABLET_KEY: OVER})
    assert changed.claims == {
        PHONE_KEY: SessionClaims(PHONE.session_id, NEW),
        LAPTOP_KEY: SessionClaims(LAPTOP.session_id, NEW),
    }
    assert changed.changed == {
        PHONE_KEY: replace(PHONE, stored_claims=NEWER),
        LAPTOP_KEY: replace(LAPTOP, stored_claims=NEWER),
    }


def test_the_session_on_one_device_gets_the_claims():
    changed = change({PHONE_KEY: PHONE, LAPTOP_KEY: LAPTOP}, PHONE_KEY)
    assert changed.claims.keys() == changed.changed.keys() == {PHONE_KEY}


@pytest.mark.parametrize("sessions", [{}, {LAPTOP_KEY: LAPTOP}, {PHONE_KEY: OVER}])
def test_a_user_may_have_no_session(sessions: dict[bytes, SessionRecord]):
    assert change(sessions, PHONE_KEY) == ClaimsChange({}, {})


@pytest.mark.parametrize("stored", [IN_TOKENS, NEWER])
def test_claims_that_a_session_has_already_change_nothing(stored: StoredClaims):
    kept = {PHONE_KEY: SessionClaims(SESSION, NEW, ("pwd",))}
    changed = change({PHONE_KEY: record(stored_claims=stored)}, stored=kept)
    assert (changed.claims, changed.changed) == (kept, {})


@pytest.mark.parametrize("stored", [IN_TOKENS, NEWER])
def test_other_claims_are_replaced_and_the_methods_kept(stored: StoredClaims):
    kept = SessionClaims(SESSION, {"email": "old@example.org", "name": "Ada"}, ("pwd",))
    changed = change({PHONE_KEY: record(stored_claims=stored)}, stored={PHONE_KEY: kept})
    assert changed.claims == {PHONE_KEY: SessionClaims(SESSION, NEW, ("pwd",))}
    assert changed.changed == {PHONE_KEY: record(stored_claims=NEWER)}


@pytest.mark.parametrize(
    ("session_id", "stored"), [(SESSION, NONE), (ENDED, IN_TOKENS), (ENDED, NONE)]
)
def test_claims_of_an_earlier_session_on_the_device_do_not_count(
    session_id: bytes, stored: StoredClaims
):
    """A server of an earlier version leaves them behind."""
    kept = {PHONE_KEY: SessionClaims(session_id, NEW, ("pwd",))}
    changed = change({PHONE_KEY: record(stored_claims=stored)}, stored=kept)
    assert changed.claims == {PHONE_KEY: SessionClaims(SESSION, NEW)}
    assert changed.changed == {PHONE_KEY: record(stored_claims=NEWER)}


@pytest.mark.parametrize("stored", StoredClaims)
@pytest.mark.parametrize("generation", [7, 8])
def test_a_renewal_is_recommended_until_the_newest_token_is_known_to_have_the_claims(
    stored: StoredClaims, generation: int
):
    current = record(stored_claims=stored, dated_at=NOW - DAY)
    presented = token(generation=generation, issued_at=NOW - timedelta(minutes=1))
    verdict = judge(current, presented, PHONE_KEY, LIMITS, NOW)
    assert verdict.renew_recommended == (stored is NEWER)


def test_no_time_of_a_session_changes():
    changed = change({PHONE_KEY: replace(PHONE, last_seen_at=NOW - DAY, dated_at=NOW - MS)})
    assert changed.changed[PHONE_KEY].last_seen_at == NOW - DAY
    assert changed.changed[PHONE_KEY].dated_at == NOW - MS
