"""Device IDs that the service assigns: they look random, and are known again."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.assigned_ids import SEED_BYTES, assign_device_id, is_assigned
from session_authority.domain.moments import SECOND
from tests.domain.samples import ENDED, NOW, SESSION, token

seeds = st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)


@given(seeds, st.sampled_from([SESSION, None]))
def test_it_has_the_form_of_a_random_uuid_and_is_known_again(seed: bytes, session: bytes | None):
    assigned = assign_device_id(seed, session, NOW)
    assert (assigned.variant, assigned.version) == (RFC_4122, 4)
    assert is_assigned(assigned, token())


@given(seeds)
def test_it_is_known_for_its_own_session_alone(seed: bytes):
    assert not is_assigned(assign_device_id(seed, ENDED, NOW), token())


@given(st.uuids(version=4))
def test_a_device_id_that_the_service_did_not_assign_is_not_known(device_id: UUID):
    assert not is_assigned(device_id, token())


@pytest.mark.parametrize(("session", "known"), [(SESSION, True), (None, False)])
def test_one_of_no_session_is_known_if_it_is_no_older_than_the_token(session: bytes, known: bool):
    earlier = assign_device_id(b"12345678", session, token().issued_at - SECOND)
    assert is_assigned(earlier, token()) is known
    assert is_assigned(assign_device_id(b"12345678", session, token().issued_at), token())
