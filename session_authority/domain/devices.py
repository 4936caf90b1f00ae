"""A user's devices: what is remembered of them, and in which order they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from session_authority.domain.addresses import AddressDetail
from session_authority.domain.appearances.appearance import appearance
from session_authority.domain.clients import Client
from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.sessions import SessionRecord


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """What is remembered of a device of a user. It outlives the sessions on it. `display_name` is
    the user's own choice. `later` is what a later version of the service wrote of it: it is kept as
    it is, and never read.
    """

    device_id: UUID
    display_name: str
    last_client: Client
    first_seen_at: datetime
    last_signed_in_at: datetime
    last_seen_at: datetime
    later: bytes = b""

    def shown_name(self) -> str:
        """What to call it: the user's name for it, else the app's, else one made from the client
        hints and the user agent.
        """
        if self.display_name or self.last_client.display_name:
            return self.display_name or self.last_client.display_name
        return appearance(self.last_client).name

    def kept(self, detail: AddressDetail) -> DeviceRecord:
        """The device with its client's address as exact as it is kept."""
        return replace(self, last_client=self.last_client.kept(detail))

    def touched(self, client: Client, now: datetime) -> DeviceRecord:
        """The device after it was used by `client`."""
        return replace(
            self,
            last_client=self.last_client.updated_by(client),
            last_seen_at=max(now, self.last_seen_at),
        )


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """A device as it is shown: `session` is the live one on it, if any. `expires_at` is when that
    session ends if it is not used again, `absolute_end` when it ends however much it is used.
    """

    key: bytes
    device: DeviceRecord
    session: SessionRecord | None
    expires_at: datetime | None
    absolute_end: datetime | None = None
    current: bool = False

    @property
    def last_seen_at(self) -> datetime:
        """When it was last active."""
        return (
            self.device.last_seen_at
            if self.session is None
            else max(self.device.last_seen_at, self.session.last_seen_at)
        )

    def sort_key(self) -> tuple[float, bytes]:
        """What the list is sorted by: the newest activity first, then the key."""
        return (-self.last_seen_at.timestamp(), self.key)


def listed(
    key: bytes,
    device: DeviceRecord,
    session: SessionRecord | None,
    limits: SessionLimits,
    now: datetime,
) -> ListedDevice:
    """The device as it is shown at `now`: a session past its end is none."""
    if session is None or not session.is_live(limits, now):
        return ListedDevice(key, device, None, None)
    return ListedDevice(
        key, device, session, session.expires_at(limits), session.absolute_end(limits)
    )


def list_devices(
    *,
    sessions: Mapping[bytes, SessionRecord],
    devices: Mapping[bytes, DeviceRecord],
    current_key: bytes | None,
    include_signed_out: bool,
    limits: SessionLimits,
    now: datetime,
) -> Sequence[ListedDevice]:
    """All devices to show, in order. Every session has a device: both are written in one step."""
    shown = (
        replace(listed(k, d, sessions.get(k), limits, now), current=k == current_key)
        for k, d in devices.items()
    )
    return sorted(
        (d for d in shown if include_signed_out or d.session is not None), key=ListedDevice.sort_key
    )
