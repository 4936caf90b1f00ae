"""What a sign-in does to the user's other sessions and devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.clients import Client
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.errors import DeviceLimitReached
from session_authority.domain.session_limits import DEVICE_MEMORY, DeviceLimitAction, SessionLimits
from session_authority.domain.sessions import REPLACED_ID_BYTES, SessionRecord
from session_authority.domain.sign_in import SignIn, decide_sign_in, needs_all_records
from tests.domain.samples import (
    DAY,
    LAPTOP_KEY,
    LIMITS,
    MINUTE,
    MS,
    NOW,
    PHONE,
    PHONE_KEY,
    SECOND,
    SESSION,
    around,
    device,
    record,
)

NEW_SESSION = b"\xaa" * 16
SMALL = SessionLimits(max_devices=3)
REJECT = replace(SMALL, device_limit_action=DeviceLimitAction.REJECT)
OVER = record(ends_at=NOW)


def signed_in(
    sessions: Mapping[bytes, SessionRecord] | None = None,
    devices: Mapping[bytes, DeviceRecord] | None = None,
    *,
    limits: SessionLimits = SMALL,
    remembered: bool = True,
    **changes: Any,
) -> SignIn:
    """Signs in on the phone. Each given session adds a device of its own, as every session does."""
    sessions = sessions or {}
    arguments: dict[str, Any] = {
        "sessions": sessions,
        "devices": {k: device(UUID(bytes=k)) for k in sessions if remembered} | dict(devices or {}),
        "key": PHONE_KEY,
        "device_id": PHONE,
        "session_id": NEW_SESSION,
        "client": Client(),
        "session_end": NOW + limits.session_ttl,
        "limits": limits,
        "now": NOW,
    }
    return decide_sign_in(**arguments | changes)


def key(number: int) -> bytes:
    return number.to_bytes(16)


def used(*ago: timedelta) -> dict[bytes, SessionRecord]:
    """Live sessions on devices 1, 2, ..., last used this long ago."""
    return {key(i): record(last_seen_at=NOW - a) for i, a in enumerate(ago, 1)}


# The session.


def test_a_session_begins_with_generation_1_unseen_and_without_a_holder():
    session = signed_in().session
    assert (session.session_id, session.generation, session.holder, session.first_seen_at) == (
        NEW_SESSION,
        1,
        None,
        None,
    )
    assert (session.signed_in_at, session.dated_at, session.last_seen_at) == (NOW, NOW, NOW)
    assert (session.token_ends_at, session.ends_at) == (
        NOW + SMALL.token_ttl,
        NOW + SMALL.session_ttl,
    )
    assert session.replaced is None


@pytest.mark.parametrize(("when", "left"), around(SMALL.token_ttl))
def test_the_first_token_does_not_outlive_its_session(when: str, left: timedelta):
    assert signed_in(session_end=NOW + left).session.token_ends_at == NOW + min(
        left, SMALL.token_ttl
    )


def test_a_live_session_on_the_device_is_replaced_and_remembered():
    decision = signed_in({PHONE_KEY: record()})
    assert decision.replaced
    assert decision.session.replaced == SESSION[:REPLACED_ID_BYTES]
    assert decision.session.session_id == NEW_SESSION
    assert (decision.ended, decision.evicted) == ((), ())


def test_only_the_last_replaced_session_is_remembered():
    first = replace(record(), replaced=b"\x77" * REPLACED_ID_BYTES)
    assert signed_in({PHONE_KEY: first}).session.replaced == SESSION[:REPLACED_ID_BYTES]


@pytest.mark.parametrize(
    "over",
    [
        record(ends_at=NOW),
        record(ends_at=NOW - DAY),
        record(last_seen_at=NOW - LIMITS.idle_timeout),
    ],
    ids=["just", "yesterday", "idle"],
)
def test_an_ended_session_is_overwritten_and_forgotten(over: SessionRecord):
    decision = signed_in({PHONE_KEY: over})
    assert not decision.replaced
    assert decision.session.replaced is None
    assert decision.ended == ()


def test_a_session_on_another_device_does_not_change():
    decision = signed_in({LAPTOP_KEY: record()})
    assert (decision.replaced, decision.session.replaced) == (False, None)
    assert (decision.ended, decision.evicted) == ((), ())


def test_ended_sessions_on_other_devices_are_removed():
    sessions = {
        key(1): OVER,
        key(2): record(),
        key(3): record(last_seen_at=NOW - LIMITS.idle_timeout),
    }
    assert set(signed_in(sessions).ended) == {key(1), key(3)}


# The device.


def test_a_device_that_was_never_seen_is_new():
    client = Client(user_agent="curl/8.5.0")
    decision = signed_in(client=client)
    assert (decision.new_device, decision.first_device) == (True, True)
    assert decision.device == DeviceRecord(PHONE, "", client, NOW, NOW, NOW)


def test_a_remembered_device_is_not_new_and_keeps_its_name():
    known = device(
        display_name="Sami's phone",
        last_client=Client(ip_address="203.0.113.7", app_version="4.11"),
        last_seen_at=NOW - 90 * DAY,
    )
    decision = signed_in(devices={PHONE_KEY: known}, client=Client(app_version="4.12"))
    assert (decision.new_device, decision.first_device) == (False, False)
    assert decision.device == replace(
        known,
        last_client=Client(ip_address="203.0.113.7", app_version="4.12"),
        last_signed_in_at=NOW,
        last_seen_at=NOW,
    )


def test_last_seen_of_a_device_never_goes_back():
    ahead = device(last_seen_at=NOW + SECOND)
    assert signed_in(devices={PHONE_KEY: ahead}).device.last_seen_at == NOW + SECOND


def test_a_second_device_is_new_but_the_first_is_not():
    decision = signed_in(devices={LAPTOP_KEY: device()})
    assert (decision.new_device, decision.first_device) == (True, False)


def test_a_device_is_not_the_first_if_there_is_a_session_without_a_device():
    assert not signed_in({LAPTOP_KEY: record()}, devices={}, remembered=False).first_device
    assert signed_in({LAPTOP_KEY: OVER}, devices={}, remembered=False).first_device


# The limit.


def test_up_to_the_limit_no_session_makes_room():
    assert signed_in(used(MINUTE, MINUTE)).evicted == ()


def test_the_longest_unused_session_makes_room():
    assert signed_in(used(MINUTE, DAY, SECOND)).evicted == (key(2),)


def test_of_equally_unused_sessions_the_key_decides():
    for ago, evicted in (((DAY, DAY, DAY), key(1)), ((DAY - MS, DAY, DAY), key(2))):
        sessions = used(*ago)
        assert signed_in(sessions).evicted == (evicted,)
        assert signed_in(dict(reversed(sessions.items()))).evicted == (evicted,)


def test_a_lowered_limit_is_reached_at_once():
    assert signed_in(used(SECOND, 3 * DAY, MINUTE, 2 * DAY, DAY)).evicted == (
        key(2),
        key(4),
        key(5),
    )


def test_the_session_s_own_use_counts_and_not_the_device_s():
    sessions = used(MINUTE, DAY, MINUTE)
    devices = {key(2): device(last_seen_at=NOW), key(1): device(last_seen_at=NOW - 99 * DAY)}
    assert signed_in(sessions, devices).evicted == (key(2),)


def test_signing_in_again_on_a_device_needs_no_room():
    sessions = {PHONE_KEY: record(last_seen_at=NOW - 5 * DAY), **used(MINUTE, DAY)}
    for limits in (SMALL, REJECT):
        decision = signed_in(sessions, limits=limits)
        assert (decision.replaced, decision.evicted) == (True, ())


def test_ended_sessions_need_no_room():
    sessions = {**used(MINUTE, DAY), key(3): OVER, key(4): OVER}
    for limits in (SMALL, REJECT):
        decision = signed_in(sessions, limits=limits)
        assert (set(decision.ended), decision.evicted) == ({key(3), key(4)}, ())


def test_a_limit_of_one_leaves_only_the_newest():
    assert signed_in(used(MINUTE), limits=SessionLimits(max_devices=1)).evicted == (key(1),)


def test_where_the_setting_rejects_a_sign_in_beyond_the_limit_is_refused():
    with pytest.raises(DeviceLimitReached, match=r"3 devices") as refusal:
        signed_in(used(DAY, DAY, DAY), limits=REJECT)
    assert refusal.value.max_devices == 3
    assert signed_in(used(DAY, DAY), limits=REJECT).evicted == ()


# Devices that are remembered.


@pytest.mark.parametrize(("when", "ago"), around(DEVICE_MEMORY))
def test_devices_are_forgotten_by_age(when: str, ago: timedelta):
    devices = {key(1): device(last_seen_at=NOW - ago), key(2): device()}
    assert signed_in(devices=devices).pruned == ((key(1),) if when == "after" else ())


def test_a_device_with_a_live_session_is_never_forgotten():
    ancient = device(last_seen_at=NOW - 2 * DEVICE_MEMORY)
    assert signed_in({key(1): record()}, {key(1): ancient}).pruned == ()
    assert signed_in({key(1): OVER}, {key(1): ancient}).pruned == (key(1),)


def test_the_device_that_signs_in_is_never_forgotten():
    decision = signed_in(devices={PHONE_KEY: device(last_seen_at=NOW - 2 * DEVICE_MEMORY)})
    assert (decision.pruned, decision.new_device) == ((), False)


def test_at_most_twice_the_limit_of_devices_is_remembered():
    devices = {key(i): device(last_seen_at=NOW - i * MINUTE) for i in range(1, 6)}
    assert signed_in(devices=devices).pruned == ()
    devices[key(6)] = device(last_seen_at=NOW - 6 * MINUTE)
    assert signed_in(devices=devices).pruned == (key(6),)
    devices[key(7)] = device(last_seen_at=NOW - 7 * MINUTE)
    assert signed_in(devices=devices).pruned == (key(7), key(6))


def test_a_device_that_returns_adds_none():
    devices = {key(i): device(last_seen_at=NOW - i * MINUTE) for i in range(1, 6)} | {
        PHONE_KEY: device()
    }
    assert signed_in(devices=devices).pruned == ()


def test_of_equally_old_devices_the_key_decides():
    devices = {key(i): device(last_seen_at=NOW - DAY) for i in reversed(range(1, 8))}
    assert signed_in(devices=devices).pruned == (key(1), key(2))


def test_devices_forgotten_by_age_count_first():
    devices = {key(i): device(last_seen_at=NOW - i * MINUTE) for i in range(1, 6)}
    devices[key(9)] = device(last_seen_at=NOW - 2 * DEVICE_MEMORY)
    assert signed_in(devices=devices).pruned == (key(9),)


def test_signed_in_devices_count_but_are_not_forgotten():
    sessions = used(DAY, DAY)
    devices = {key(i): device(last_seen_at=NOW - i * DAY) for i in range(1, 7)}
    assert signed_in(sessions, devices).pruned == (key(6),)


def test_the_device_of_a_session_that_makes_room_may_be_forgotten_too():
    sessions = used(DAY, DAY, DAY)
    devices = {key(i): device(last_seen_at=NOW - DAY) for i in range(1, 7)}
    decision = signed_in(sessions, devices)
    assert (decision.evicted, decision.pruned) == ((key(1),), (key(1),))


# For any records.

lives = st.dictionaries(
    st.integers(1, 12).map(key) | st.just(PHONE_KEY),
    st.tuples(st.booleans(), st.booleans(), st.integers(0, 250)),
    max_size=13,
)


Life = Mapping[bytes, tuple[bool, bool, int]]


def sessions_of(life: Life) -> dict[bytes, SessionRecord]:
    return {
        k: record(
            last_seen_at=NOW - (days % 6) * DAY, ends_at=NOW + (MINUTE if is_live else -MINUTE)
        )
        for k, (has_session, is_live, days) in life.items()
        if has_session
    }


def devices_of(life: Life) -> dict[bytes, DeviceRecord]:
    return {
        k: device(UUID(bytes=k), last_seen_at=NOW - days * DAY) for k, (_, _, days) in life.items()
    }


@given(lives)
def test_the_limits_hold_and_every_record_is_accounted_for(life: Life):
    sessions, devices = sessions_of(life), devices_of(life)
    decision = signed_in(sessions, devices)
    live = {k for k, s in sessions.items() if s.is_live(SMALL, NOW)}
    gone = set(decision.ended) | set(decision.evicted)
    assert PHONE_KEY not in gone | set(decision.pruned)
    assert set(decision.ended) == sessions.keys() - live - {PHONE_KEY}
    assert set(decision.evicted) <= live
    assert len((live | {PHONE_KEY}) - gone) <= SMALL.max_devices
    assert len((devices.keys() | {PHONE_KEY}) - set(decision.pruned)) <= 2 * SMALL.max_devices
    assert not set(decision.pruned) & ((live | {PHONE_KEY}) - gone)
    assert len(decision.pruned) == len(set(decision.pruned))
    assert decision.replaced == (PHONE_KEY in live)
    assert decision.new_device == (PHONE_KEY not in devices)


# Some of the records.


@given(lives, st.sets(st.integers(1, 12).map(key)), st.integers(2, 14))
def test_a_decision_by_some_records_equals_that_by_all_except_for_clean_up(
    life: Life, drawn: set[bytes], max_devices: int
):
    """Ended sessions and old devices that were not read are removed later."""
    limits = SessionLimits(max_devices=max_devices)
    sessions, devices = sessions_of(life), devices_of(life)
    read = drawn | {PHONE_KEY}
    some_sessions = {k: s for k, s in sessions.items() if k in read}
    some_devices = {k: d for k, d in devices.items() if k in read}
    if needs_all_records(
        sessions=some_sessions,
        devices=some_devices,
        key=PHONE_KEY,
        unread_sessions=len(sessions) - len(some_sessions),
        unread_devices=len(devices) - len(some_devices),
        limits=limits,
        now=NOW,
    ):
        return
    by_all = signed_in(sessions, devices, limits=limits)
    by_some = signed_in(some_sessions, some_devices, limits=limits, remembered=False)
    assert by_some == replace(by_all, ended=by_some.ended, pruned=by_some.pruned)
    assert set(by_some.ended) == set(by_all.ended) & read
    assert set(by_some.pruned) <= set(by_all.pruned)
    assert all(
        NOW - devices[k].last_seen_at > DEVICE_MEMORY
        for k in set(by_all.pruned) - set(by_some.pruned)
    )


RECENT, OLD = device(), device(last_seen_at=NOW - DEVICE_MEMORY - MS)


@pytest.mark.parametrize(
    ("others", "changes"),
    [
        (False, {"unread_sessions": 0, "unread_devices": 0, "devices": {}}),
        (False, {}),
        (False, {"sessions": used(DAY)}),
        (False, {"sessions": {PHONE_KEY: record(), key(1): record()}}),
        (False, {"sessions": {key(1): OVER, key(2): OVER}}),
        (True, {"sessions": used(DAY, DAY)}),
        (True, {"unread_sessions": 3}),
        (False, {"unread_devices": 4}),
        (True, {"unread_devices": 5}),
        (True, {"devices": {}}),
        (False, {"devices": {PHONE_KEY: RECENT}}),
        (False, {"devices": {PHONE_KEY: OLD}}),
        (True, {"devices": {key(1): OLD}}),
        (True, {"devices": {key(1): OLD}, "sessions": {key(1): OVER}}),
        (False, {"devices": {key(1): OLD}, "sessions": {key(1): record()}}),
    ],
)
def test_all_records_are_needed_if_the_others_may_change_the_decision(
    others: bool, changes: dict[str, Any]
):
    arguments: dict[str, Any] = {
        "sessions": {},
        "devices": {key(1): RECENT},
        "key": PHONE_KEY,
        "unread_sessions": 1,
        "unread_devices": 1,
        "limits": SMALL,
        "now": NOW,
    }
    assert needs_all_records(**arguments | changes) is others
