"""Defines the values that the store accepts and returns."""

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
    """The kinds of records in Redis. REQUEST is the result of a sign-in with a `request_id`."""

    SESSION = "session"
    DEVICE = "device"
    CLAIMS = "claims"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A decoded record, and the bytes from which it was decoded. A commit compares the bytes of
    `raw` with the bytes in Redis to find out if the record has changed.
    """

    record: T
    raw: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that can't be decoded. `raw` has the record's bytes, so that a commit can replace
    the record. `reason` says why the record can't be decoded. `later` is True if a later version of
    the service wrote the record.
    """

    raw: bytes
    reason: str
    later: bool = False


@dataclass(frozen=True, slots=True)
class IssuedRecord:
    """The result of a sign-in with a `request_id`. `evicted` has the device keys of the sessions
    that this sign-in ended because the user was signed in on too many devices.
    """

    request_digest: bytes
    session_id: bytes
    device_id: UUID
    device_id_assigned: bool
    new_device: bool
    evicted: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class UserState:
    """The stored records of a user, by device key. `issued` is the result of the sign-in with the
    given `request_id` (None: no result, or no `request_id`).

    A user's sessions are stored in one hash, and the devices in another hash. If a key that should
    be a hash has another type, `other_types` has the kind of records that belong in the hash.
    `unread_sessions` and `unread_devices` are the numbers of records that were not read. Both
    numbers are zero unless `SessionStore.user_at` read the state.
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
        """Returns the stored session on a device, even if it is unreadable. A commit that replaces
        this session needs the result in its `if_sessions`.
        """
        return self.sessions.get(key) or self.unreadable_sessions.get(key)

    def device_at(self, key: bytes) -> Stored[DeviceRecord] | Unreadable | None:
        """Returns the stored record of a device, even if it is unreadable. A commit that replaces
        this record needs the result in its `if_devices`.
        """
        return self.devices.get(key) or self.unreadable_devices.get(key)

    def session_count(self) -> int:
        """Returns the number of session records, including records that are unreadable or were not
        read.
        """
        return len(self.sessions) + len(self.unreadable_sessions) + self.unread_sessions

    def session_records(self) -> dict[bytes, SessionRecord]:
        """Returns the decoded session records by device key, without their bytes."""
        return {k: s.record for k, s in self.sessions.items()}

    def device_records(self) -> dict[bytes, DeviceRecord]:
        """Returns the decoded device records by device key, without their bytes."""
        return {k: d.record for k, d in self.devices.items()}


@dataclass(frozen=True, slots=True)
class Once:
    """A Redis key that a commit creates, and that must not exist before the commit. The key expires
    after `memory_ms`, so at most one commit with the same key takes place in `memory_ms`. A key
    whose value is `unreadable` or whose type is not string counts as missing.
    """

    key: str
    value: bytes
    memory_ms: int
    unreadable: bytes = b""


@dataclass(frozen=True, slots=True)
class Commit:
    """A decision to change the data of one user, and the records on which the decision was based.

    The mappings have device keys as their keys. A commit that removes a session also removes the
    session's claims, so `set_claims` need not name the claims. In `if_sessions`, `if_devices` and
    `if_claims`, the value None means that the record must not exist. If `if_session_count` is None,
    the user may have any number of sessions. In `set_sessions`, `set_devices` and `set_claims`, the
    value None means that the record is removed. `clear_sessions` removes all sessions.

    If `durable` is True and the service is set to wait for replicas, the commit waits until the
    replicas have the changes, or until a timeout. Set `durable` to False for a commit that may be
    lost.
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
        """True if the commit may be lost and may be sent to Redis twice. If the commit is sent
        twice, the second execution changes nothing, because the session is no longer the same as in
        `if_sessions`.
        """
        changes = any(key in self.set_sessions for key in self.if_sessions)
        told = self.events or self.once is not None or self.clear_sessions
        return changes and not told and not self.durable


@dataclass(frozen=True, slots=True)
class RemovedSessions:
    """The stored bytes of the sessions that a commit or a revocation removed. Some of the sessions
    may be unreadable. A user may have thousands of sessions, so the sessions are decoded only where
    needed: see the module `removed_sessions`.
    """

    raws: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        """Returns the number of removed sessions, including unreadable sessions."""
        return len(self.raws)


@dataclass(frozen=True, slots=True)
class Committed:
    """The result of a commit that took place. `removed` has the sessions that were removed."""

    removed: RemovedSessions = RemovedSessions()


@dataclass(frozen=True, slots=True)
class Changed:
    """The result of a commit that did not take place. The number of sessions, or a record on which
    the decision was based, has changed. The caller must decide again.
    """


@dataclass(frozen=True, slots=True)
class AlreadyDone:
    """The result of a commit that did not take place, because the key in its `once` exists."""


CommitResult = Committed | Changed | AlreadyDone
