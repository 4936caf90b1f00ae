"""Sorts a user's devices for the page "My devices" and its API, and splits the list into pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from session_authority_client.types import Device, FormFactor

PAGE_SIZE = 50
# The longest name of a device, in characters. The service has the same limit.
MAX_NAME_LENGTH = 100
MAX_ALARMS = 20
# The list shows alarms that are at most this old, and signed-out devices that were seen or had an
# alarm within this time. The service also keeps alarms for 28 days.
MEMORY = timedelta(days=28)
# A device counts as active if it was seen within this time. The time is several minutes, because
# the service records the use of a session only about once a minute, and a near cache may delay the
# record.
_ACTIVE_WITHIN = timedelta(minutes=5)
# The time of an event may differ by this much from the time of the sign-in or alarm that the event
# reports. The event is written just after the sign-in or alarm, and the clocks of the store and the
# service may differ.
_EVENT_WITHIN = timedelta(seconds=5)
_EVENT_ID = re.compile(r"evt_[A-Za-z0-9]{1,32}_([0-9]{13})_[0-9]{1,20}", re.ASCII)
_CURSOR = re.compile(r"([12])\.([0-9]{1,20})\.([0-9a-f-]{36})", re.ASCII)

KINDS: Mapping[FormFactor, str] = {
    FormFactor.UNSPECIFIED: "other",
    FormFactor.DESKTOP: "desktop",
    FormFactor.PHONE: "phone",
    FormFactor.TABLET: "tablet",
    FormFactor.TV: "tv",
    FormFactor.CONSOLE: "console",
    FormFactor.WEARABLE: "watch",
    FormFactor.BOT: "bot",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Key = tuple[int, int, str]


class BadCursor(ValueError):
    """The cursor for a page of the list is malformed."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm about a token that was probably stolen. If a mail about this alarm linked to the
    page, `event_id` is the ID of the event that the mail was about. If no mail about this alarm
    linked to the page, `event_id` is empty.
    """

    device_id: str
    at: datetime
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of the list of a user's devices. The current device comes first, then all further
    signed-in devices, and then the signed-out devices. A signed-out device is in the list only if
    it was seen or had an alarm in the last 28 days.

    On the first page, `alarms` has the last alarm of each device in the whole list. The newest
    alarm comes first, and there are at most `MAX_ALARMS` alarms. Alarms that are more than 28 days
    old are left out. On all later pages, `alarms` is empty.

    `everything` has the devices of all pages. `others` is the number of signed-in devices of all
    pages, without the current device. `signed_out` is the number of signed-out devices of all
    pages. `marked` is the ID of a device if a mail about its sign-in linked to the page, or empty.
    """

    devices: Sequence[Device]
    next_cursor: str
    alarms: Sequence[Alarm]
    others: int
    signed_out: int
    now: datetime
    marked: str = ""
    everything: Sequence[Device] = ()


def listing(
    devices: Sequence[Device], now: datetime, *, after: str = "", event_id: str = ""
) -> Listing:
    """Returns one page of the list of a user's devices.

    Args:
        devices: All devices of the user.
        now: The current time.
        after: The `next_cursor` of the previous page, or empty for the first page.
        event_id: The ID of an event if a mail about this event linked to the page, or empty.

    Raises BadCursor if `after` is malformed.
    """
    shown = sorted((d for d in devices if _is_shown(d, now)), key=_key)
    start = _parsed(after) if after else None
    rest = shown if start is None else [device for device in shown if _key(device) > start]
    page, more = rest[:PAGE_SIZE], len(rest) > PAGE_SIZE
    alarms = _alarms(shown, now, event_id)
    told = any(alarm.event_id for alarm in alarms)
    return Listing(
        devices=page,
        next_cursor=_cursor(page[-1]) if more else "",
        alarms=alarms if start is None else (),
        others=sum(device.signed_in and not device.current for device in shown),
        signed_out=sum(not device.signed_in for device in shown),
        now=now,
        marked="" if told else _marked(shown, event_id),
        everything=shown,
    )


def name_of(device: Device) -> str:
    """Returns the name that the user or the app gave to a device. Returns an empty text if the
    service made the name, from the browser and the model or system.
    """
    on = (device.model, device.operating_system)
    made = {"", "Unknown device", device.browser, *on}
    made |= {f"{device.browser} on {place}" for place in on}
    return "" if device.display_name in made else device.display_name


def is_active_now(device: Device, now: datetime) -> bool:
    """Returns True if a signed-in device is in use. The current device counts as in use, and so
    does a device that was used in the last 5 minutes.
    """
    seen = device.last_seen_time
    recent = seen is not None and now - seen <= _ACTIVE_WITHIN
    return device.signed_in and (device.current or recent)


def alarm_of(device: Device, now: datetime) -> Alarm | None:
    """Returns the last alarm about a device. Returns None if there was no alarm in the last 28
    days.
    """
    alarm = device.last_alarm
    if alarm is None or now - alarm.create_time > MEMORY:
        return None
    return Alarm(device.device_id, alarm.create_time)


def _is_shown(device: Device, now: datetime) -> bool:
    seen = device.last_seen_time or device.sign_in_time
    recent = seen is not None and now - seen <= MEMORY
    return device.signed_in or recent or alarm_of(device, now) is not None


def _key(device: Device) -> _Key:
    group = 0 if device.current else 1 if device.signed_in else 2
    seen = device.last_seen_time or _EPOCH
    return group, -((seen - _EPOCH) // timedelta(microseconds=1)), device.device_id


def _cursor(device: Device) -> str:
    group, micros, device_id = _key(device)
    # Group 0 has only the current device. A cursor that points after the current device starts with
    # the number of group 1.
    return f"{max(group, 1)}.{-micros}.{device_id}"


def _parsed(cursor: str) -> _Key:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise BadCursor(cursor)
    return int(found[1]), -int(found[2]), found[3]


def _alarms(devices: Sequence[Device], now: datetime, event_id: str) -> Sequence[Alarm]:
    found = [alarm for device in devices if (alarm := alarm_of(device, now)) is not None]
    found.sort(key=lambda alarm: alarm.at, reverse=True)
    happened = _moment_of(event_id)
    return [
        Alarm(alarm.device_id, alarm.at, event_id) if _is_about(alarm.at, happened) else alarm
        for alarm in found[:MAX_ALARMS]
    ]


def _marked(devices: Sequence[Device], event_id: str) -> str:
    happened = _moment_of(event_id)
    near = [
        (abs(device.sign_in_time - happened), device.device_id)
        for device in devices
        if happened is not None
        and device.sign_in_time is not None
        and _is_about(device.sign_in_time, happened)
    ]
    return min(near, default=(None, ""))[1]


def _moment_of(event_id: str) -> datetime | None:
    """Returns the time at which the event with this ID was written, as the ID contains it. Returns
    None if the text is no event ID.
    """
    found = _EVENT_ID.fullmatch(event_id)
    return _EPOCH + timedelta(milliseconds=int(found[1])) if found is not None else None


def _is_about(at: datetime | None, happened: datetime | None) -> bool:
    return at is not None and happened is not None and abs(at - happened) <= _EVENT_WITHIN
