"""The values that the store accepts and returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar
from uuid import UUID

from session_authority.domain.devices import DeviceRecord
from session_authority.domain.events import Event
from session_authority.domain.session_claims import SessionClaims
from session_authority.domain.sessions import SessionRecord

T = TypeVar("T")


class RecordKind(StrEnum):
    """The kinds of records."""

    SESSION = "session"
    DEVICE = "device"
    CLAIMS = "claims"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A record, and the bytes from which it was read. A commit compares these bytes with the store
    to find out if the record has changed.
    """

    record: T
    raw: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that can't be read. It has the record's bytes, so that a commit can replace it, and
    the reason. `later` is True if a later version of the service wrote the record.
    """

    raw: bytes
    reason: str
    later: bool = False


@dataclass(frozen=True, slots=True)
class IssuedRecord:
    """The result of the sign-in with a `request_id`. `evicted` has the device keys of the evicted
    sessions.
    """

    request_digest: bytes
    session_id: bytes
    device_id: UUID
    device_id_assigned: bool
    new_device: bool
    evicted: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class UserState:
    """The stored records of a user, by device key, and the result of the given `request_id`.

    The sessions are one hash, and the devices another. If one of the two keys is not a hash, its
    kind is in `other_types`. `unread_sessions` and `unread_devices` are the numbers of records that
    were not read. They are zero unless the state was read for one device.
    """

    sessions: Mapping[bytes, Stored[SessionRecord]]
    devices: Mapping[bytes, Stored[DeviceRecord]]
    issued: IssuedRecord | None = None
    unreadable_sessions: Mapping[bytes, Unreadable] = field(default_factory=dict)
    unreadable_devices: Mapping[bytes, Unreadable] = field(default_factory=dict)
    unreadable_issued: Unreadable | None = None
    other_types: frozenset[RecordKind] = frozenset()
    unread_sessions: int = 0
    unread_devices: int = 0

    def session_at(self, key: bytes) -> Stored[SessionRecord] | Unreadable | None:
        """Returns the stored session on a device. A commit passes this value to replace the
        session.
        """
        return self.sessions.get(key) or self.unreadable_sessions.get(key)

    def device_at(self, key: bytes) -> Stored[DeviceRecord] | Unreadable | None:
        """Returns the stored record of a device. A commit passes this value to replace the
        record.
        """
        return self.devices.get(key) or self.unreadable_devices.get(key)

    def session_count(self) -> int:
        """Returns the number of session records, including records that are unreadable or were not
        read.
        """
        return len(self.sessions) + len(self.unreadable_sessions) + self.unread_sessions

    def session_records(self) -> dict[bytes, SessionRecord]:
        """Returns the session records, without their bytes."""
        return {k: s.record for k, s in self.sessions.items()}

    def device_records(self) -> dict[bytes, DeviceRecord]:
        """Returns the device records, without their bytes."""
        return {k: d.record for k, d in self.devices.items()}


@dataclass(frozen=True, slots=True)
class Once:
    """A key that a commit creates, and that must not exist before. So the commit takes place only
    once in `memory_ms`. A key whose value is `unreadable`, or whose type is not string, counts as
    missing.
    """

    key: str
    value: bytes
    memory_ms: int
    unreadable: bytes = b""


@dataclass(frozen=True, slots=True)
class Commit:
    """A decision about one user, and the records on which the decision was based.

    Sessions, devices and claims are named by device key. If a session is removed, its claims are
    removed with it, and need not be named. In the mappings of the `if_*` fields, None means "must
    not exist". If `if_session_count` is None, the user may have any number of sessions. In the
    `set_*` fields, None means "remove".

    If `durable` is True and replicas are configured, the commit waits until the replicas have the
    changes, or until the wait times out. Set `durable` to False for a commit that may be lost.
    """

    user_id: str
    now: datetime
    if_sessions: Mapping[bytes, Stored[SessionRecord] | Unreadable | None] = field(
        default_factory=dict
    )
    if_devices: Mapping[bytes, Stored[DeviceRecord] | Unreadable | None] = field(
        default_factory=dict
    )
    if_claims: Mapping[bytes, Stored[SessionClaims] | Unreadable | None] = field(
        default_factory=dict
    )
    if_session_count: int | None = None
    once: Once | None = None
    set_sessions: Mapping[bytes, SessionRecord | None] = field(default_factory=dict)
    set_devices: Mapping[bytes, DeviceRecord | None] = field(default_factory=dict)
    set_claims: Mapping[bytes, SessionClaims | None] = field(default_factory=dict)
    clear_sessions: bool = False
    durable: bool = True
    events: tuple[Event, ...] = ()

    @property
    def is_mark(self) -> bool:
        """Returns True if the commit may be lost and may be sent twice. When such a commit is sent
        again it does nothing, because it first compares the session that it changes.
        """
        changes = any(key in self.set_sessions for key in self.if_sessions)
        told = self.events or self.once is not None or self.clear_sessions
        return changes and not told and not self.durable


@dataclass(frozen=True, slots=True)
class RemovedSessions:
    """The sessions that a write removed, in their stored form. A user may have had thousands of
    sessions, so they are decoded only where needed: see the module `removed_sessions`. Some may be
    unreadable.
    """

    raws: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        """Returns the number of removed sessions, including unreadable ones."""
        return len(self.raws)


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit that took place, and the sessions that it removed."""

    removed: RemovedSessions = RemovedSessions()


@dataclass(frozen=True, slots=True)
class Changed:
    """A commit that did not take place, because a record on which the decision was based, or the
    number of sessions, has changed. The use case must decide again.
    """


@dataclass(frozen=True, slots=True)
class AlreadyDone:
    """A commit that did not take place, because the key of its `once` exists already."""


CommitResult = Committed | Changed | AlreadyDone
