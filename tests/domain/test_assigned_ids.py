"""Device IDs that a validation assigns: they look random, and the service recognizes them."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.assigned_ids import RANDOM_BYTES, assign_device_id, is_assigned


@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES))
def test_an_assigned_id_looks_like_a_random_uuid_and_is_recognized(random: bytes):
    assigned = assign_device_id(random)
    assert (assigned.variant, assigned.version) == (RFC_4122, 4)
    assert is_assigned(assigned)


@given(st.uuids(version=4))
def test_a_device_id_that_the_service_did_not_assign_is_not_recognized(device_id: UUID):
    assert not is_assigned(device_id)


def test_an_assigned_id_has_ninety_random_bits():
    zeros, ones = (assign_device_id(bytes([byte]) * RANDOM_BYTES) for byte in (0, 0xFF))
    head = 8 * RANDOM_BYTES
    assert ((zeros.int ^ ones.int) >> (128 - head)).bit_count() == 90
