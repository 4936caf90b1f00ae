"""What goes into the store and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from session_authority.domain.devices import DeviceRecord
from session_authority.domain.events import Event
from session_authority.domain.sessions import SessionRecord

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A record and the bytes it was read from, by which a commit tells whether it is still the
    same.
    """

    record: T
    raw: bytes


@dataclass(frozen=True, slots=True)
class IssuedRecord:
    """What a `request_id` led to. `evicted` are device keys."""

    request_digest: bytes
    session_id: bytes
    device_id: UUID
    device_id_assigned: bool
    new_device: bool
    evicted: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class UserState:
    """All that is stored of a user, by device key, and what the asked-for `request_id` led to."""

    sessions: Mapping[bytes, Stored[SessionRecord]]
    devices: Mapping[bytes, Stored[DeviceRecord]]
    issued: IssuedRecord | None = None

    def session_records(self) -> dict[bytes, SessionRecord]:
        """The sessions without their bytes."""
        return {k: s.record for k, s in self.sessions.items()}

    def device_records(self) -> dict[bytes, DeviceRecord]:
        """The devices without their bytes."""
        return {k: d.record for k, d in self.devices.items()}


@dataclass(frozen=True, slots=True)
class Once:
    """A key that a commit makes and that must not exist before: it happens once in `memory_ms`."""

    key: str
    value: bytes
    memory_ms: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A decision on one user, and what it was taken on.

    Sessions and devices go by device key. In `if_*` None means "must not be there", in `set_*` it
    means "remove". `durable`: replicas are to have it; what may be lost waits for none.
    """

    user_id: str
    now: datetime
    if_sessions: Mapping[bytes, Stored[SessionRecord] | None] = field(default_factory=dict)
    if_devices: Mapping[bytes, Stored[DeviceRecord] | None] = field(default_factory=dict)
    if_session_count: int | None = None
    once: Once | None = None
    set_sessions: Mapping[bytes, SessionRecord | None] = field(default_factory=dict)
    set_devices: Mapping[bytes, DeviceRecord | None] = field(default_factory=dict)
    clear_sessions: bool = False
    durable: bool = True
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit that took place, and the sessions that it removed."""

    removed: tuple[SessionRecord, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A commit that did not take place: what it was taken on had changed. Decide again."""


@dataclass(frozen=True, slots=True)
class AlreadyDone:
    """A commit that did not take place: its once key exists."""


CommitResult = Committed | Changed | AlreadyDone
