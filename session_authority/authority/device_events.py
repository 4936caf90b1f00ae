"""Events about a device, with all that is remembered of it."""

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
    """An event about a device and the session on it. None stands for one that is not known."""
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
