"""A user's devices: which are remembered, which must make room, and in which order they are
shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from session_authority.domain.clients import Client, appearance
from session_authority.domain.errors import DeviceLimitReached
from session_authority.domain.policy import DEVICE_MEMORY, DeviceLimitAction, Policy
from session_authority.domain.sessions import SessionRecord, sign_in


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """What is remembered of a device of a user. It outlives the sessions on it. `display_name` is
    the user's own choice.
    """

    device_id: UUID
    display_name: str
    last_client: Client
    first_seen: datetime
    last_sign_in: datetime
    last_seen: datetime

    def shown_name(self) -> str:
        """What to call it: the user's name for it, else the app's, else one from the user agent."""
        if self.display_name or self.last_client.display_name:
            return self.display_name or self.last_client.display_name
        looks = appearance(self.last_client.user_agent)
        browser, system = looks.browser, looks.operating_system
        if browser and system:
            return f"{browser} on {system}"
        return browser or system or "Unknown device"

    def touched(self, client: Client, now: datetime) -> DeviceRecord:
        """The device after it was used by `client`."""
        return replace(
            self,
            last_client=self.last_client.updated_by(client),
            last_seen=max(now, self.last_seen),
        )


@dataclass(frozen=True, slots=True)
class SignIn:
    """The decision on a sign-in: what becomes of the user's sessions and devices.

    Keys are device keys. `replaced` says that the device had a live session. `ended` are sessions
    past their end, found on the way; `evicted` are live ones that make room; `pruned` are devices
    that are remembered no longer.
    """

    session: SessionRecord
    device: DeviceRecord
    new_device: bool
    first_device: bool
    replaced: bool
    ended: tuple[bytes, ...]
    evicted: tuple[bytes, ...]
    pruned: tuple[bytes, ...]


def decide_sign_in(
    *,
    sessions: Mapping[bytes, SessionRecord],
    devices: Mapping[bytes, DeviceRecord],
    key: bytes,
    device_id: UUID,
    session_id: bytes,
    client: Client,
    session_end: datetime,
    policy: Policy,
    now: datetime,
) -> SignIn:
    """Decides a sign-in on the device with this key; raises DeviceLimitReached where one more is
    refused.
    """
    live = {k: s for k, s in sessions.items() if s.is_live(policy, now)}
    replaced = live.get(key)
    known = devices.get(key)
    if known is None:
        device = DeviceRecord(
            device_id=device_id,
            display_name="",
            last_client=client,
            first_seen=now,
            last_sign_in=now,
            last_seen=now,
        )
    else:
        device = replace(known.touched(client, now), last_sign_in=now)
    evicted = _make_room({k: s for k, s in live.items() if k != key}, policy)
    return SignIn(
        session=sign_in(
            session_id=session_id,
            replaced=replaced,
            session_ttl_end=session_end,
            policy=policy,
            now=now,
        ),
        device=device,
        new_device=known is None,
        first_device=not devices and not live,
        replaced=replaced is not None,
        ended=tuple(k for k in sessions if k not in live and k != key),
        evicted=evicted,
        pruned=_forgettable(devices, {key, *live} - set(evicted), policy, now, joining=key),
    )


def _make_room(others: Mapping[bytes, SessionRecord], policy: Policy) -> tuple[bytes, ...]:
    """Which sessions make room for one more: the longest unused ones."""
    surplus = len(others) - policy.max_devices + 1
    if surplus <= 0:
        return ()
    if policy.device_limit_action is DeviceLimitAction.REJECT:
        raise DeviceLimitReached(policy.max_devices)
    return tuple(sorted(others, key=lambda k: (others[k].last_seen, k))[:surplus])


def _forgettable(
    devices: Mapping[bytes, DeviceRecord],
    kept: set[bytes],
    policy: Policy,
    now: datetime,
    joining: bytes,
) -> tuple[bytes, ...]:
    """Devices without a live session that are too old, or too many: at most 2 × `max_devices` are
    remembered.
    """
    spare = sorted((k for k in devices if k not in kept), key=lambda k: (devices[k].last_seen, k))
    old = [k for k in spare if now - devices[k].last_seen > DEVICE_MEMORY]
    surplus = len({*devices, joining}) - len(old) - 2 * policy.max_devices
    return (*old, *spare[len(old) :][: max(surplus, 0)])


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """A device as it is shown: `session` is the live one on it, if any, and `expires` that
    session's end.
    """

    key: bytes
    device: DeviceRecord
    session: SessionRecord | None
    expires: datetime | None
    current: bool = False

    @property
    def last_seen(self) -> datetime:
        """When it was last active."""
        return (
            self.device.last_seen
            if self.session is None
            else max(self.device.last_seen, self.session.last_seen)
        )

    def sort_key(self) -> tuple[float, bytes]:
        """What the list is sorted by: the newest activity first, then the key."""
        return (-self.last_seen.timestamp(), self.key)


def listed(
    key: bytes, device: DeviceRecord, session: SessionRecord | None, policy: Policy, now: datetime
) -> ListedDevice:
    """The device as it is shown at `now`: a session past its end is none."""
    if session is None or not session.is_live(policy, now):
        return ListedDevice(key, device, None, None)
    return ListedDevice(key, device, session, session.expires(policy))


def list_devices(
    *,
    sessions: Mapping[bytes, SessionRecord],
    devices: Mapping[bytes, DeviceRecord],
    current_key: bytes | None,
    include_signed_out: bool,
    policy: Policy,
    now: datetime,
) -> Sequence[ListedDevice]:
    """All devices to show, in order. Every session has a device: both are written in one step."""
    shown = (
        replace(listed(k, d, sessions.get(k), policy, now), current=k == current_key)
        for k, d in devices.items()
    )
    return sorted(
        (d for d in shown if include_signed_out or d.session is not None), key=ListedDevice.sort_key
    )
