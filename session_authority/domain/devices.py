"""A user's devices: what is remembered of them, and in which order they are shown."""

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

# How long a theft alarm is listed.
ALARM_MEMORY = timedelta(days=28)
# This many bytes of a session's ID distinguish the sign-ins on one device.
_SIGN_IN_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class SignInMethods:
    """How the user proved who they are at a sign-in. `session_id` is the start of the ID of its
    session: an earlier version of the service, which does not know this, may have signed the user
    in since.
    """

    session_id: bytes
    auth_methods: tuple[str, ...]

    @classmethod
    def of(cls, session_id: bytes, auth_methods: tuple[str, ...]) -> SignInMethods:
        """The methods of the session's own sign-in."""
        return cls(session_id[:_SIGN_IN_ID_BYTES], auth_methods)

    def are_of(self, session: SessionRecord) -> bool:
        """Returns True if the session began with this sign-in."""
        return session.session_id[:_SIGN_IN_ID_BYTES] == self.session_id


@dataclass(frozen=True, slots=True)
class Alarm:
    """A theft alarm about a session on a device. `cause` is None if a later version of the service
    raised it for a cause of its own.
    """

    happened_at: datetime
    cause: ReplayCause | None


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """The record of a user's device. The record outlives the sessions on the device.

    `display_name` is the name that the user chose. `later` holds bytes that a later version of the
    service wrote. They are kept unchanged and never read.
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
        """The device's name: the one that the user gave, or else the app's, or else a name made of
        the client hints and the user agent.
        """
        if self.display_name or self.last_client.display_name:
            return self.display_name or self.last_client.display_name
        return appearance(self.last_client).name

    def auth_methods_of(self, session: SessionRecord) -> tuple[str, ...]:
        """How the user signed in to a session on the device. Empty if that is not known."""
        methods = self.last_sign_in
        return () if methods is None or not methods.are_of(session) else methods.auth_methods

    def recent_alarm(self, now: datetime) -> Alarm | None:
        """The last theft alarm on the device, if there is one that is still listed."""
        alarm = self.last_alarm
        return None if alarm is None or now - alarm.happened_at > ALARM_MEMORY else alarm

    def kept(self, detail: AddressDetail) -> DeviceRecord:
        """The device, with its client's address cut to the part that the service keeps."""
        client = self.last_client.kept(detail)
        return self if client is self.last_client else replace(self, last_client=client)

    def touched(self, client: Client, now: datetime) -> DeviceRecord:
        """The device after `client` used it."""
        return replace(
            self,
            last_client=self.last_client.updated_by(client),
            last_seen_at=max(now, self.last_seen_at),
        )


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """A device as it is shown: `session` is the live one on it, if any. `expires_at` is when that
    session ends if it is not used again, `absolute_end` when it ends however much it is used, and
    `auth_methods` are those of its sign-in.
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
        """When the device was last active."""
        return (
            self.device.last_seen_at
            if self.session is None
            else max(self.device.last_seen_at, self.session.last_seen_at)
        )

    def sort_key(self) -> tuple[float, bytes]:
        """The key by which the list is sorted: newest activity first, then the device key."""
        return (-self.last_seen_at.timestamp(), self.key)


def listed(
    key: bytes,
    device: DeviceRecord,
    session: SessionRecord | None,
    limits: SessionLimits,
    now: datetime,
) -> ListedDevice:
    """The device as it is shown at `now`. A session past its end is left out."""
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
    """All devices to show, in order. Each session has a device, as both are written in one step."""
    shown = (
        replace(listed(k, d, sessions.get(k), limits, now), current=k == current_key)
        for k, d in devices.items()
    )
    return sorted(
        (d for d in shown if include_signed_out or d.session is not None), key=ListedDevice.sort_key
    )
