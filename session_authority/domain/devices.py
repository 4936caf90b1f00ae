"""Defines the devices of a user: the facts that the service remembers about each device, and the
order of the devices in the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from session_authority.domain.addresses import AddressDetail
from session_authority.domain.appearances.appearance import appearance
from session_authority.domain.clients import Client
from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.sessions import SessionRecord
from session_authority.domain.verdicts import ReplayCause

# The list of devices shows a theft alarm for this long.
ALARM_MEMORY = timedelta(days=28)
# The number of bytes of a session's ID that distinguish the sign-ins on one device.
_SIGN_IN_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class SignInMethods:
    """The authentication methods by which the user proved their identity at a sign-in.

    `session_id` is the start of the ID of the session that the sign-in began. `session_id` shows
    whether the methods belong to the current session of the device. The methods may be older than
    the current session, because an earlier version of the service, which stores no methods, may
    have handled the last sign-in.
    """

    session_id: bytes
    auth_methods: tuple[str, ...]

    @classmethod
    def of(cls, session_id: bytes, auth_methods: tuple[str, ...]) -> SignInMethods:
        """Returns the methods of the sign-in that began the session with this ID."""
        return cls(session_id[:_SIGN_IN_ID_BYTES], auth_methods)

    def are_of(self, session: SessionRecord) -> bool:
        """Returns True if the session began with the sign-in that had these methods."""
        return session.session_id[:_SIGN_IN_ID_BYTES] == self.session_id


@dataclass(frozen=True, slots=True)
class Alarm:
    """A theft alarm about a session on a device. `cause` is None if a later version of the service
    raised the alarm for a cause that this version does not know.
    """

    happened_at: datetime
    cause: ReplayCause | None


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """The store's record of a user's device. The record outlives the sessions on the device.

    `display_name` is the name that the user chose. `later` holds bytes that a later version of the
    service wrote. The service keeps the bytes in `later` unchanged and never reads them.
    """

    device_id: UUID
    display_name: str
    last_client: Client
    first_seen_at: datetime
    last_signed_in_at: datetime
    last_seen_at: datetime
    last_sign_in: SignInMethods | None = None
    last_alarm: Alarm | None = None
    later: bytes = b""

    def shown_name(self) -> str:
        """Returns the name to show for the device: the name that the user gave, or else the name
        that the app gave, or else a name made from the client hints and the user agent.
        """
        if self.display_name or self.last_client.display_name:
            return self.display_name or self.last_client.display_name
        return appearance(self.last_client).name

    def auth_methods_of(self, session: SessionRecord) -> tuple[str, ...]:
        """Returns the methods by which the user signed in to a session on the device. Returns an
        empty tuple if the methods are not known.
        """
        methods = self.last_sign_in
        return () if methods is None or not methods.are_of(session) else methods.auth_methods

    def recent_alarm(self, now: datetime) -> Alarm | None:
        """Returns the last theft alarm on the device. Returns None if there was no alarm, or if the
        alarm is too old to be listed.
        """
        alarm = self.last_alarm
        return None if alarm is None or now - alarm.happened_at > ALARM_MEMORY else alarm

    def kept(self, detail: AddressDetail) -> DeviceRecord:
        """Returns the device's record, with the address of its client reduced to the part that the
        service keeps. `detail` says which part the service keeps.
        """
        client = self.last_client.kept(detail)
        return self if client is self.last_client else replace(self, last_client=client)

    def touched(self, client: Client, now: datetime) -> DeviceRecord:
        """Returns the device's record after `client` has used the device at `now`."""
        return replace(
            self,
            last_client=self.last_client.updated_by(client),
            last_seen_at=max(now, self.last_seen_at),
        )


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """A device as the list of devices shows it.

    `key` is the device key. `session` is the live session on the device, or None. `expires_at` is
    the moment at which the session ends if it is not used again. `absolute_end` is the moment at
    which the session ends even if it is used. `current` is true for the device from which the end
    user looks at the list. `auth_methods` has the methods of the sign-in that began the session.
    `last_alarm` is None if there was no theft alarm, or if the alarm is too old to be listed.
    """

    key: bytes
    device: DeviceRecord
    session: SessionRecord | None
    expires_at: datetime | None
    absolute_end: datetime | None = None
    current: bool = False
    auth_methods: tuple[str, ...] = ()
    last_alarm: Alarm | None = None

    @property
    def last_seen_at(self) -> datetime:
        """The moment at which the device or its session was last used."""
        return (
            self.device.last_seen_at
            if self.session is None
            else max(self.device.last_seen_at, self.session.last_seen_at)
        )

    def sort_key(self) -> tuple[float, bytes]:
        """Returns the sort key of the device in the list. The device that was used last comes
        first. If two devices were last used at the same moment, their device keys decide.
        """
        return (-self.last_seen_at.timestamp(), self.key)


def listed(
    key: bytes,
    device: DeviceRecord,
    session: SessionRecord | None,
    limits: SessionLimits,
    now: datetime,
) -> ListedDevice:
    """Returns the device as the list of devices shows it at `now`. If the session has ended, the
    result has no session.

    Args:
        key: The device key.
        device: The record of the device.
        session: The record of the session on the device. None if there is no session.
        limits: The limits of sessions.
        now: The present time.
    """
    alarm = device.recent_alarm(now)
    if session is None or not session.is_live(limits, now):
        return ListedDevice(key, device, None, None, last_alarm=alarm)
    return ListedDevice(
        key,
        device,
        session,
        session.expires_at(limits),
        session.absolute_end(limits),
        auth_methods=device.auth_methods_of(session),
        last_alarm=alarm,
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
    """Returns all devices to show, in the order of the list. A session without a device record is
    not shown.

    Args:
        sessions: The records of the user's sessions, by device key.
        devices: The records of the user's devices, by device key.
        current_key: The key of the device that is marked as current. None if no device is marked.
        include_signed_out: True if devices without a live session are shown, too.
        limits: The limits of sessions.
        now: The present time.
    """
    shown = (
        replace(listed(k, d, sessions.get(k), limits, now), current=k == current_key)
        for k, d in devices.items()
    )
    return sorted(
        (d for d in shown if include_signed_out or d.session is not None), key=ListedDevice.sort_key
    )
