"""Decisions about the list of devices: the order, the pages, the alarms, and the entry that a mail
was about.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from session_authority_client import (
    ClientInfo,
    Device,
    DeviceAlarm,
    FormFactor,
    ReplayCause,
)
from session_authority_client.devices.catalogue import texts_in
from session_authority_client.devices.listing import (
    KINDS,
    MAX_ALARMS,
    MEMORY,
    PAGE_SIZE,
    BadCursor,
    Listing,
    is_active_now,
    listing,
    name_of,
)
from session_authority_client.devices.titles import titles_of

NOW = datetime(2026, 11, 29, 17, 26, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def device(
    number: int,
    *,
    name: str = "Unknown device",
    seen: timedelta = HOUR,
    signed_in: bool = True,
    current: bool = False,
    alarm: timedelta | None = None,
    browser: str = "",
    system: str = "",
    model: str = "",
) -> Device:
    return Device(
        device_id=str(UUID(int=number)),
        display_name=name,
        operating_system=system,
        browser=browser,
        form_factor=FormFactor.PHONE,
        last_client=ClientInfo(),
        session_id="",
        create_time=None,
        sign_in_time=NOW - seen - HOUR,
        last_seen_time=NOW - seen,
        expire_time=None,
        current=current,
        signed_in=signed_in,
        model=model,
        last_alarm=(
            None if alarm is None else DeviceAlarm(NOW - alarm, ReplayCause.SUPERSEDED_TOKEN)
        ),
    )


def numbers(found: Listing) -> list[int]:
    return [UUID(each.device_id).int for each in found.devices]


def test_this_device_comes_first_then_signed_in_devices_by_their_last_use():
    devices = [
        device(1, signed_in=False, seen=timedelta()),
        device(2, seen=2 * HOUR),
        device(3, seen=HOUR),
        device(4, seen=DAY, current=True),
        device(5, signed_in=False, seen=DAY),
    ]
    found = listing(devices, NOW)
    assert numbers(found) == [4, 3, 2, 1, 5]
    assert (found.others, found.signed_out) == (2, 2)


@pytest.mark.parametrize(
    ("seen", "alarm", "shown"),
    [
        (MEMORY, None, True),
        (MEMORY + HOUR, None, False),
        (2 * MEMORY, MEMORY, True),
        (2 * MEMORY, MEMORY + HOUR, False),
    ],
)
def test_a_signed_out_device_is_shown_for_28_days(
    seen: timedelta, alarm: timedelta | None, shown: bool
):
    assert bool(listing([device(1, signed_in=False, seen=seen, alarm=alarm)], NOW).devices) is shown
    assert listing([device(1, seen=seen)], NOW).devices


@pytest.mark.parametrize("count", [0, 1, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE])
def test_each_device_is_on_exactly_one_page(count: int):
    devices = [device(n, current=n == 1, signed_in=n % 3 != 0) for n in range(1, count + 1)]
    found: list[int] = []
    page = listing(devices, NOW)
    found += numbers(page)
    while page.next_cursor:
        page = listing(devices, NOW, after=page.next_cursor)
        assert page.devices
        assert not page.alarms
        found += numbers(page)
    assert sorted(found) == list(range(1, count + 1))
    assert len(set(found)) == len(found)


def test_a_device_that_is_used_between_two_pages_hides_no_other_device():
    devices = [device(n, seen=n * HOUR) for n in range(1, PAGE_SIZE + 3)]
    cursor = listing(devices, NOW).next_cursor
    devices[3] = device(4, seen=timedelta())
    assert numbers(listing(devices, NOW, after=cursor)) == [PAGE_SIZE + 1, PAGE_SIZE + 2]


@pytest.mark.parametrize("cursor", ["x", "0.1." + "0" * 36, "1.-1." + "0" * 36, "1.1.x", "1.1"])
def test_an_invalid_cursor_is_refused(cursor: str):
    with pytest.raises(BadCursor):
        listing([device(1)], NOW, after=cursor)


def test_only_the_newest_alarms_are_shown():
    devices = [device(n, alarm=n * HOUR) for n in range(1, MAX_ALARMS + 5)]
    alarms = listing(devices, NOW).alarms
    assert [UUID(alarm.device_id).int for alarm in alarms] == list(range(1, MAX_ALARMS + 1))


def event_id(at: datetime) -> str:
    return f"evt_113_{int(at.timestamp() * 1000)}_0"


def test_a_mail_marks_the_alarm_or_the_sign_in_that_it_was_about():
    devices = [device(1, alarm=HOUR), device(2, alarm=2 * HOUR), device(3, seen=5 * HOUR)]
    about_alarm = event_id(NOW - 2 * HOUR + timedelta(milliseconds=300))
    found = listing(devices, NOW, event_id=about_alarm)
    assert [alarm.event_id for alarm in found.alarms] == ["", about_alarm]
    found = listing(devices, NOW, event_id=event_id(NOW - 6 * HOUR))
    assert UUID(found.marked).int == 3
    assert {alarm.event_id for alarm in found.alarms} == {""}


@pytest.mark.parametrize(
    "text", ["", "1", "evt_1_x_0", "evt_113_9999999999999_0", "evt__1764437160000_0", "x" * 999]
)
def test_an_unknown_event_marks_nothing(text: str):
    found = listing([device(1, alarm=HOUR)], NOW, event_id=text)
    assert (found.marked, [alarm.event_id for alarm in found.alarms]) == ("", [""])


@pytest.mark.parametrize(
    ("display_name", "name"),
    [
        ("Chrome 148 on Windows 11", ""),
        ("Chrome 148 on Pixel", ""),
        ("Unknown device", ""),
        ("Chrome 148", ""),
        ("Ada's phone", "Ada's phone"),
    ],
)
def test_a_name_that_the_service_made_does_not_count_as_a_name(display_name: str, name: str):
    made = device(1, name=display_name, browser="Chrome 148", system="Windows 11", model="Pixel")
    assert name_of(made) == name


def test_no_two_devices_have_the_same_title():
    devices = [
        device(1, name="Phone"),
        device(2, name="Phone"),
        device(3, name="Phone (2)"),
        device(4, browser="Chrome", system="Windows"),
        device(5, system="iOS", model="iPhone"),
        device(6, browser="Chrome"),
        device(7),
    ]
    assert list(titles_of(devices, texts_in("en", {})).values()) == [
        *("Phone", "Phone (2)", "Phone (2) (2)", "Chrome on Windows", "iPhone", "Chrome"),
        "Phone (3)",
    ]


def test_a_device_is_active_for_five_minutes_after_its_last_use():
    minutes = timedelta(minutes=1)
    assert is_active_now(device(1, seen=5 * minutes), NOW)
    assert not is_active_now(device(1, seen=6 * minutes), NOW)
    assert not is_active_now(device(1, seen=minutes, signed_in=False), NOW)
    assert is_active_now(device(1, seen=DAY, current=True), NOW)


def test_every_form_factor_has_a_name():
    assert KINDS.keys() == set(FormFactor)
