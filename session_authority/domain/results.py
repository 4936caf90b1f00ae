"""Defines the answers of the use cases, in the terms of the domain."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from session_authority.domain.devices import ListedDevice
from session_authority.domain.sessions import Token
from session_authority.domain.steady_verdicts import Steadiness
from session_authority.domain.verdicts import SessionStatus


@dataclass(frozen=True, slots=True)
class IssuedDevice:
    """The answer to a sign-in. `device_id_assigned` is true if the service made the device ID.
    `evicted` has the devices whose sessions ended because the user had too many sessions.
    """

    device: ListedDevice
    access_token: str
    token_expires_at: datetime
    device_id_assigned: bool
    new_device: bool
    evicted: tuple[ListedDevice, ...]


@dataclass(frozen=True, slots=True)
class ActiveSession:
    """An active session: its token, the ID of its device, and two ends according to its record. At
    `expires_at` the session ends if it is not used again. At `absolute_end` the session ends even
    if it is used.
    """

    token: Token
    device_id: UUID
    expires_at: datetime
    absolute_end: datetime


@dataclass(frozen=True, slots=True)
class Validation:
    """The answer to a validation. `device_id` is the presented device ID, or a new ID if
    `device_id_assigned` is true. `session` is set if the status is ACTIVE. `revoked_devices` is the
    number of devices on which an alarm signed the user out. `steadiness` is set if the service may
    give the same answer again.
    """

    status: SessionStatus
    device_id: UUID
    device_id_assigned: bool
    session: ActiveSession | None = None
    renew_recommended: bool = False
    revoked_devices: int = 0
    steadiness: Steadiness | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state of a session that was named without a token. If the status is ACTIVE, `expires_at`
    and `absolute_end` are set, with the same meaning as in `ActiveSession`.
    """

    status: SessionStatus
    expires_at: datetime | None = None
    absolute_end: datetime | None = None


@dataclass(frozen=True, slots=True)
class RenewedSession:
    """The answer to a renewal. `session` is set if the status is ACTIVE. `access_token` is set if
    the client gets a token. If the status is ACTIVE and `access_token` is None, the client keeps
    its token. `revoked_devices` is the number of devices on which an alarm signed the user out.
    """

    status: SessionStatus
    session: ActiveSession | None = None
    access_token: str | None = None
    revoked_devices: int = 0


@dataclass(frozen=True, slots=True)
class DevicePage:
    """One page of the list of a user's devices. `next_page_token` is empty on the last page.
    `total_size` is the number of devices in the whole list.
    """

    devices: tuple[ListedDevice, ...]
    next_page_token: str
    total_size: int
