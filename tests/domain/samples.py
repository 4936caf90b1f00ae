"""Samples for tests to vary: a session in the middle of its life, its token, a device, and the
moments around an edge.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from session_authority.domain.clients import Client
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.identifiers import device_key
from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.sessions import SessionRecord, Token
from session_authority.domain.sign_in import new_session

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MS = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
LIMITS = SessionLimits()
PHONE, LAPTOP, TABLET = (UUID(int=n) for n in (0xA, 0xB, 0xC))
PHONE_KEY, LAPTOP_KEY, TABLET_KEY = (device_key(d) for d in (PHONE, LAPTOP, TABLET))
SESSION, REPLACED, ENDED = (bytes([n]) * 16 for n in (1, 2, 3))
COPY, OTHER_COPY = 0x1234, 0x4321


def record(limits: SessionLimits = LIMITS, **changes: Any) -> SessionRecord:
    """A session of generation 7 that has a holder, and whose token was seen more than `ALARM_AFTER`
    ago: each kind of replay raises the alarm.
    """
    began = NOW - DAY
    fresh = new_session(
        session_id=SESSION,
        replaced=None,
        session_ttl_end=began + limits.session_ttl,
        limits=limits,
        now=began,
    )
    dated = NOW - limits.alarm_after - MINUTE
    settled: dict[str, Any] = {
        "generation": 7,
        "holder": COPY,
        "predecessor": COPY,
        "dated_at": dated,
        "token_ends_at": dated + limits.token_ttl,
        "first_seen_at": dated + MS,
        "last_seen_at": NOW - SECOND,
    }
    return replace(fresh, **settled | changes)


def token(limits: SessionLimits = LIMITS, **changes: Any) -> Token:
    """The current token of the session `record`: older than `durable_after`, and far from its
    half-life.
    """
    issued = NOW - limits.durable_after - MINUTE
    values: dict[str, Any] = {
        "user_id": "sami",
        "device_key": PHONE_KEY,
        "session_id": SESSION,
        "generation": 7,
        "copy": COPY,
        "issued_at": issued,
        "expires_at": issued + limits.token_ttl,
        "signed_in_at": NOW - DAY,
        "claims": {},
        "auth_methods": (),
    }
    return Token(**values | changes)


def device(device_id: UUID = PHONE, **changes: Any) -> DeviceRecord:
    """A device that has been known for a week and was just used."""
    values: dict[str, Any] = {
        "device_id": device_id,
        "display_name": "",
        "last_client": Client(),
        "first_seen_at": NOW - 7 * DAY,
        "last_signed_in_at": NOW - DAY,
        "last_seen_at": NOW - SECOND,
    }
    return DeviceRecord(**values | changes)


def around(edge: timedelta) -> list[tuple[str, timedelta]]:
    """Returns the durations just before, at, and just after an edge, each with its name."""
    return [("before", edge - MS), ("at", edge), ("after", edge + MS)]
