"""The list of devices: which devices are shown, in which order, and under which names."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import pytest

from session_authority.domain.clients import Client
from session_authority.domain.devices import DeviceRecord, ListedDevice, list_devices, listed
from session_authority.domain.sessions import SessionRecord
from tests.domain.samples import (
    DAY,
    LAPTOP_KEY,
    LIMITS,
    MINUTE,
    MS,
    NOW,
    PHONE_KEY,
    SECOND,
    TABLET_KEY,
    device,
    record,
)

FIREFOX = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"


def shown(
    devices: Mapping[bytes, DeviceRecord],
    sessions: Mapping[bytes, SessionRecord] | None = None,
    *,
    current_key: bytes | None = None,
    include_signed_out: bool = True,
) -> list[ListedDevice]:
    return list(
        list_devices(
            sessions=sessions or {},
            devices=devices,
            current_key=current_key,
            include_signed_out=include_signed_out,
            limits=LIMITS,
            now=NOW,
        )
    )


def seen(moment: datetime) -> DeviceRecord:
    return device(last_seen_at=moment)


# The order of devices.


def test_the_newest_activity_comes_first():
    devices = {PHONE_KEY: seen(NOW - DAY), LAPTOP_KEY: seen(NOW), TABLET_KEY: seen(NOW - MINUTE)}
    assert [d.key for d in shown(devices)] == [LAPTOP_KEY, TABLET_KEY, PHONE_KEY]


def test_the_activity_of_a_device_includes_that_of_its_session():
    devices = {PHONE_KEY: seen(NOW - DAY), LAPTOP_KEY: seen(NOW - MINUTE), TABLET_KEY: seen(NOW)}
    sessions = {
        PHONE_KEY: record(last_seen_at=NOW - SECOND),
        TABLET_KEY: record(last_seen_at=NOW - DAY),
    }
    order = shown(devices, sessions)
    assert [d.key for d in order] == [TABLET_KEY, PHONE_KEY, LAPTOP_KEY]
    assert [d.last_seen_at for d in order] == [NOW, NOW - SECOND, NOW - MINUTE]


def test_the_activity_of_an_ended_session_does_not_count():
    devices = {PHONE_KEY: seen(NOW - DAY), LAPTOP_KEY: seen(NOW - MINUTE)}
    sessions = {PHONE_KEY: record(last_seen_at=NOW, ends_at=NOW)}
    assert [d.key for d in shown(devices, sessions)] == [LAPTOP_KEY, PHONE_KEY]


def test_equally_active_devices_are_ordered_by_key_however_they_are_stored():
    keys = [bytes([n]) * 16 for n in range(20)]
    shuffled = random.Random(1).sample(keys, len(keys))
    assert [d.key for d in shown({k: seen(NOW) for k in shuffled})] == keys


def test_a_millisecond_of_activity_decides_the_order():
    devices = {b"\x01" * 16: seen(NOW - MS), b"\x02" * 16: seen(NOW)}
    assert [d.key[0] for d in shown(devices)] == [2, 1]


def test_sort_keys_grow_along_the_list():
    devices = {bytes([n]) * 16: seen(NOW - (n % 3) * SECOND) for n in range(9)}
    places = [d.sort_key() for d in shown(devices)]
    assert places == sorted(set(places))


# Which devices are shown.


def test_signed_out_devices_are_shown_on_request_only():
    devices = {PHONE_KEY: seen(NOW), LAPTOP_KEY: seen(NOW - MINUTE), TABLET_KEY: seen(NOW - DAY)}
    sessions = {LAPTOP_KEY: record(), TABLET_KEY: record(ends_at=NOW)}
    assert [d.key for d in shown(devices, sessions, include_signed_out=False)] == [LAPTOP_KEY]
    everything = shown(devices, sessions)
    assert {d.key: d.session is not None for d in everything} == {
        PHONE_KEY: False,
        LAPTOP_KEY: True,
        TABLET_KEY: False,
    }


def test_only_the_current_device_is_marked():
    devices = {PHONE_KEY: seen(NOW), LAPTOP_KEY: seen(NOW)}
    assert {d.key: d.current for d in shown(devices, current_key=PHONE_KEY)} == {
        PHONE_KEY: True,
        LAPTOP_KEY: False,
    }
    for nobody in (None, TABLET_KEY):
        assert not any(d.current for d in shown(devices, current_key=nobody))


def test_a_user_without_devices_has_an_empty_list():
    assert shown({}) == []


# What is shown of each device.


def test_a_session_is_shown_with_its_idle_or_absolute_end():
    idle = record(ends_at=NOW + 300 * DAY)
    assert (
        listed(PHONE_KEY, device(), idle, LIMITS, NOW).expires_at
        == idle.last_seen_at + LIMITS.idle_timeout
    )
    assert (
        listed(PHONE_KEY, device(), idle, LIMITS, NOW).absolute_end
        == idle.signed_in_at + LIMITS.session_ttl
    )
    short = record(ends_at=NOW + MS)
    assert listed(PHONE_KEY, device(), short, LIMITS, NOW) == ListedDevice(
        PHONE_KEY, device(), short, NOW + MS, NOW + MS
    )


def test_a_session_is_shown_with_the_end_that_the_current_limits_set():
    shorter = replace(LIMITS, session_ttl=DAY + MINUTE)
    session = record()
    assert listed(PHONE_KEY, device(), session, LIMITS, NOW).expires_at != NOW + MINUTE
    assert listed(PHONE_KEY, device(), session, shorter, NOW).expires_at == NOW + MINUTE
    own = record(ends_at=NOW + MS)
    assert listed(PHONE_KEY, device(), own, shorter, NOW).expires_at == NOW + MS


@pytest.mark.parametrize(
    "session", [None, record(ends_at=NOW), record(last_seen_at=NOW - LIMITS.idle_timeout)]
)
def test_a_device_without_a_live_session_is_shown_without_an_end(session: SessionRecord | None):
    assert listed(PHONE_KEY, device(), session, LIMITS, NOW) == ListedDevice(
        PHONE_KEY, device(), None, None
    )


@pytest.mark.parametrize(
    ("chosen", "client", "name"),
    [
        ("Sami's phone", Client(display_name="Pixel 8", user_agent=FIREFOX), "Sami's phone"),
        ("", Client(display_name="Pixel 8", user_agent=FIREFOX), "Pixel 8"),
        ("", Client(user_agent=FIREFOX), "Firefox 133 on Ubuntu"),
        ("", Client(user_agent="curl/8.5.0"), "curl 8"),
        ("", Client(user_agent="Acme (Windows NT 10.0; Win64; x64)"), "Windows"),
        ("", Client(user_agent="nobody knows me"), "Unknown device"),
        ("", Client(), "Unknown device"),
        ("Sami's phone", Client(), "Sami's phone"),
    ],
)
def test_the_shown_name_is_the_users_else_the_apps_else_from_the_user_agent(
    chosen: str, client: Client, name: str
):
    assert device(display_name=chosen, last_client=client).shown_name() == name


def test_removing_the_users_name_shows_the_apps_name_again():
    named = device(display_name="Sami's phone", last_client=Client(display_name="Pixel 8"))
    assert replace(named, display_name="").shown_name() == "Pixel 8"


def test_a_use_stores_the_client_fields_that_came_and_keeps_the_others():
    before = device(
        last_client=Client(
            ip_address="203.0.113.7", user_agent=FIREFOX, display_name="Pixel 8", app_version="1"
        ),
        last_seen_at=NOW - DAY,
    )
    after = before.touched(Client(ip_address="2001:db8::7", app_version="2"), NOW)
    assert after.last_client == Client("2001:db8::7", FIREFOX, "Pixel 8", "2")
    assert (
        replace(after, last_client=before.last_client, last_seen_at=before.last_seen_at) == before
    )
    assert after.last_seen_at == NOW
    assert after.touched(Client(), NOW - DAY) == after
