"""Decides a sign-in: the new session, and the sessions that end to make room for it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from session_authority.domain.clients import Client
from session_authority.domain.devices import DeviceRecord, SignInMethods
from session_authority.domain.errors import DeviceLimitReached
from session_authority.domain.session_limits import DEVICE_MEMORY, DeviceLimitAction, SessionLimits
from session_authority.domain.sessions import REPLACED_ID_BYTES, SessionRecord


@dataclass(frozen=True, slots=True)
class SignIn:
    """The decision on a sign-in, for all sessions and devices of the user.

    `ended`, `evicted` and `pruned` contain device keys. `replaced` is true if the device had a live
    session before. `new_device` is true if the service had no record of the device. `first_device`
    is true if the service had no record of any device of the user, and the user had no live
    session. `ended` names the sessions on other devices that are past their end. `evicted` names
    the live sessions that end to make room for the new session. `pruned` names the devices that the
    service forgets.
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
    limits: SessionLimits,
    now: datetime,
    idle_timeout: timedelta | None = None,
    auth_methods: tuple[str, ...] = (),
    unreadable: Set[bytes] = frozenset(),
) -> SignIn:
    """Decides a sign-in on a device. Raises DeviceLimitReached if the user is signed in on as many
    other devices as the limit allows, and `device_limit_action` is REJECT.

    Args:
        sessions: The records of the user's sessions, by device key. Records may be missing in
            `sessions` and in `devices`, unless `needs_all_records` returns True.
        devices: The records of the user's devices, by device key.
        key: The device key of the device.
        device_id: The ID of the device.
        session_id: The ID of the new session.
        client: The client that signs in.
        session_end: The absolute end of the new session.
        limits: The limits of sessions.
        now: The present time.
        idle_timeout: The idle timeout that the sign-in requested. None means the service's own
            timeout.
        auth_methods: The authentication methods by which the user proved their identity.
        unreadable: The keys of devices with a record that can't be read. A device in `unreadable`
            counts as known and as signed out. Its records stay unchanged, unless it is the device
            of the sign-in.
    """
    live = {k: s for k, s in sessions.items() if s.is_live(limits, now)}
    replaced = live.get(key)
    known = devices.get(key)
    methods = SignInMethods.of(session_id, auth_methods) if auth_methods else None
    if known is None:
        device = DeviceRecord(
            device_id=device_id,
            display_name="",
            last_client=client,
            first_seen_at=now,
            last_signed_in_at=now,
            last_seen_at=now,
            last_sign_in=methods,
        )
    else:
        touched = known.touched(client, now)
        device = replace(touched, last_signed_in_at=now, last_sign_in=methods)
    evicted = _make_room({k: s for k, s in live.items() if k != key}, limits)
    return SignIn(
        session=new_session(
            session_id=session_id,
            replaced=replaced,
            session_ttl_end=session_end,
            limits=limits,
            now=now,
            idle_timeout=idle_timeout,
        ),
        device=device,
        new_device=known is None and key not in unreadable,
        first_device=not devices and not live and not unreadable,
        replaced=replaced is not None,
        ended=tuple(k for k in sessions if k not in live and k != key),
        evicted=evicted,
        pruned=_forgettable(devices, {key, *live} - set(evicted), limits, now, joining=key),
    )


def needs_all_records(
    *,
    sessions: Mapping[bytes, SessionRecord],
    devices: Mapping[bytes, DeviceRecord],
    key: bytes,
    unread_sessions: int,
    unread_devices: int,
    limits: SessionLimits,
    now: datetime,
) -> bool:
    """Returns True if the decision on a sign-in needs records that were not read.

    The decision may need these records to find the sessions that must end to make room, or to know
    whether an old device has a session. The decision may also need these records to know whether
    this is the user's first device. If the user has more than 2 × `max_devices` devices, the
    decision needs all records to find the devices to forget.

    Args:
        sessions: The records of sessions that were read, by device key.
        devices: The records of devices that were read, by device key.
        key: The key of the device on which the user signs in.
        unread_sessions: How many records of sessions were not read.
        unread_devices: How many records of devices were not read.
        limits: The limits of sessions.
        now: The present time.
    """
    if not unread_sessions and not unread_devices:
        return False
    live = {k for k, s in sessions.items() if s.is_live(limits, now)}
    may_be_too_many = len(live - {key}) + unread_sessions >= limits.max_devices
    remembered = {*devices, key}
    # An old device is forgotten unless it has a session, and this session may be among the records
    # that were not read.
    some_is_old = any(k not in live and _is_old(d, now) for k, d in devices.items() if k != key)
    too_many_remembered = len(remembered) + unread_devices > 2 * limits.max_devices
    return may_be_too_many or some_is_old or too_many_remembered or not devices


def _make_room(others: Mapping[bytes, SessionRecord], limits: SessionLimits) -> tuple[bytes, ...]:
    """Returns the device keys of the sessions that end to make room for a new session. The sessions
    in `others` that have not been used for the longest time end. `others` has the live sessions on
    the user's other devices. Raises DeviceLimitReached if a session would have to end, but
    `device_limit_action` is REJECT.
    """
    surplus = len(others) - limits.max_devices + 1
    if surplus <= 0:
        return ()
    if limits.device_limit_action is DeviceLimitAction.REJECT:
        raise DeviceLimitReached(limits.max_devices)
    return tuple(sorted(others, key=lambda k: (others[k].last_seen_at, k))[:surplus])


def _forgettable(
    devices: Mapping[bytes, DeviceRecord],
    kept: set[bytes],
    limits: SessionLimits,
    now: datetime,
    joining: bytes,
) -> tuple[bytes, ...]:
    """Returns the keys of the devices to forget. Devices in `kept` are not forgotten. A device that
    is not in `kept` is forgotten if it was last seen more than DEVICE_MEMORY ago. If the user still
    has more than 2 × `max_devices` devices, the oldest of the devices outside `kept` are forgotten,
    too.

    `kept` has the device of the sign-in (`joining`), and the devices with a session that stays
    live.
    """
    spare = sorted(
        (k for k in devices if k not in kept), key=lambda k: (devices[k].last_seen_at, k)
    )
    old = [k for k in spare if _is_old(devices[k], now)]
    surplus = len({*devices, joining}) - len(old) - 2 * limits.max_devices
    return (*old, *spare[len(old) :][: max(surplus, 0)])


def _is_old(device: DeviceRecord, now: datetime) -> bool:
    return now - device.last_seen_at > DEVICE_MEMORY


def new_session(
    *,
    session_id: bytes,
    replaced: SessionRecord | None,
    session_ttl_end: datetime,
    limits: SessionLimits,
    now: datetime,
    idle_timeout: timedelta | None = None,
) -> SessionRecord:
    """Makes the record of a new session. The session has the generation 1, and no token of the
    session has been seen yet.

    Args:
        session_id: The ID of the new session.
        replaced: The live session that the new session replaces on the device. None if no session
            was live on the device.
        session_ttl_end: The absolute end of the new session.
        limits: The limits of sessions.
        now: The present time.
        idle_timeout: The idle timeout that the sign-in requested. None means the service's own
            timeout.
    """
    return SessionRecord(
        session_id=session_id,
        replaced=None if replaced is None else replaced.session_id[:REPLACED_ID_BYTES],
        generation=1,
        holder=None,
        predecessor=None,
        signed_in_at=now,
        dated_at=now,
        token_ends_at=min(now + limits.token_ttl, session_ttl_end),
        ends_at=session_ttl_end,
        first_seen_at=None,
        last_seen_at=now,
        idle_timeout=idle_timeout,
    )
