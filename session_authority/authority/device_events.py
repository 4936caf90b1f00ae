"""Makes events about a device, with facts from the record of the device."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from session_authority.domain.devices import DeviceRecord
from session_authority.domain.events import Event, EventType
from session_authority.domain.sessions import SessionRecord
from session_authority.store.records import Stored


def device_event(
    kind: EventType,
    now: datetime,
    user_id: str,
    actor: str,
    device: Stored[DeviceRecord] | None,
    session: SessionRecord | None,
) -> Event:
    """Makes an event about a device and the session on it.

    Args:
        kind: The type of the event.
        now: The time of the event.
        user_id: The user of the device.
        actor: The name of the caller.
        device: The record of the device. None if the record is not known.
        session: The record of the session on the device. None if the session is not known.
    """
    event = Event(
        kind, now, user_id, actor, session_id=None if session is None else session.session_id
    )
    if device is None:
        return event
    return replace(
        event,
        device_id=device.record.device_id,
        device_display_name=device.record.shown_name(),
        device_client=device.record.last_client,
    )
