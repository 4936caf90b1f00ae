"""Converts devices and alarms to the JSON values of the API of the page "My devices"."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from session_authority_client.devices.listing import (
    KINDS,
    Alarm,
    Listing,
    alarm_of,
    is_active_now,
    name_of,
)
from session_authority_client.types import Device

Json = Mapping[str, object]


def list_json(listing: Listing, secure_account_url: str | None) -> Json:
    """Returns the JSON value of a page of the list of devices."""
    return {
        "devices": [device_json(device, listing.now) for device in listing.devices],
        "next": listing.next_cursor or None,
        "marked": listing.marked or None,
        "alarms": [alarm_json(alarm) for alarm in listing.alarms],
        "now": time_text(listing.now),
        "secure_account_url": secure_account_url,
    }


def device_json(device: Device, now: datetime) -> Json:
    """Returns the JSON value of a device."""
    alarm = alarm_of(device, now)
    known_place = device.city or device.country_code
    return {
        "id": device.device_id,
        "current": device.current,
        "signed_in": device.signed_in,
        "name": name_of(device) or None,
        "kind": KINDS[device.form_factor],
        "browser": device.browser or None,
        "system": device.operating_system or None,
        "model": device.model or None,
        "address": device.last_client.ip_address or None,
        "place": (
            {"city": device.city or None, "country_code": device.country_code or None}
            if known_place
            else None
        ),
        "auth_methods": list(device.auth_methods),
        "signed_in_at": _maybe(device.sign_in_time),
        "last_active_at": _maybe(device.last_seen_time),
        "active_now": is_active_now(device, now),
        "ends_at": _maybe(device.expire_time if device.signed_in else None),
        # The service does not say when a session ended.
        "signed_out_at": None,
        "alarm": None if alarm is None else alarm_json(alarm),
    }


def alarm_json(alarm: Alarm) -> Json:
    """Returns the JSON value of an alarm."""
    return {
        "event_id": alarm.event_id or None,
        "device_id": alarm.device_id,
        "kind": "token_replayed",
        "at": time_text(alarm.at),
    }


def time_text(moment: datetime) -> str:
    """Returns a time in the form of RFC 3339, in UTC and without fractions of a second."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def _maybe(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)
