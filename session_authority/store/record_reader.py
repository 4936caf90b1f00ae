"""Decodes the records of a user one by one, so that an unreadable record affects only its own
device.

The service does not guess the contents of an unreadable record. An unreadable record counts as
missing, so no token is accepted because of the record. A metric counts unreadable records for
operators. The log reports an unreadable record at most once a minute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, TypeVar

import structlog

from session_authority.domain.addresses import AddressDetail
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.identifiers import DEVICE_KEY_BYTES, device_key
from session_authority.domain.session_claims import SessionClaims
from session_authority.domain.sessions import SessionRecord
from session_authority.runtime.logs import LogThrottle
from session_authority.runtime.metrics import Metrics
from session_authority.store import codec
from session_authority.store.driver.replies import fields_of
from session_authority.store.records import (
    IssuedRecord,
    RecordKind,
    Stored,
    Unreadable,
    UserState,
)

_OF_NO_SESSION = SessionClaims(b"", {})
OTHER_TYPE = Unreadable(b"", "the key holds another type")
_LOG_INTERVAL_SECONDS = 60.0
_USER_HASH_DIGITS = 16

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


def user_hash(user_id: str) -> str:
    """Returns the name under which a user appears in logs: the first 16 hexadecimal digits of the
    SHA-256 of the user ID.
    """
    return hashlib.sha256(user_id.encode()).hexdigest()[:_USER_HASH_DIGITS]


def state_of(
    reader: RecordReader, user_id: str, sessions: Any, devices: Any, request: Any = None
) -> UserState:
    """Returns a user's state, decoded from the replies to Redis commands. A reply is OTHER_TYPE if
    the key in Redis has a type that the command can't read.

    Args:
        reader: The reader that decodes the records.
        user_id: The user.
        sessions: The reply to HGETALL for the hash of sessions, or some fields of this reply.
        devices: The reply to HGETALL for the hash of devices, or some fields of this reply.
        request: The reply to GET for the result of a sign-in with a `request_id`. None if the
            sign-in has no result yet, or no `request_id`.
    """
    both = {RecordKind.SESSION: sessions, RecordKind.DEVICE: devices}
    found_sessions = {k: reader.session(user_id, k, raw) for k, raw in _fields(sessions)}
    found_devices = {k: reader.device(user_id, k, raw) for k, raw in _fields(devices)}
    issued: Stored[IssuedRecord] | Unreadable | None = request
    if isinstance(request, bytes):
        issued = reader.issued(user_id, request)
    return UserState(
        sessions={k: s for k, s in found_sessions.items() if isinstance(s, Stored)},
        devices={k: d for k, d in found_devices.items() if isinstance(d, Stored)},
        issued=issued.record if isinstance(issued, Stored) else None,
        unreadable_sessions={k: s for k, s in found_sessions.items() if isinstance(s, Unreadable)},
        unreadable_devices={k: d for k, d in found_devices.items() if isinstance(d, Unreadable)},
        unreadable_issued=issued if isinstance(issued, Unreadable) else None,
        other_types=frozenset(kind for kind, reply in both.items() if reply is OTHER_TYPE),
    )


def _fields(reply: Any) -> Iterable[tuple[bytes, bytes]]:
    return () if reply is OTHER_TYPE else fields_of(reply).items()


class RecordReader:
    """Decodes records. A metric counts the records that can't be read. The log reports at most one
    of these records a minute.
    """

    def __init__(
        self, metrics: Metrics | None, addresses: AddressDetail = AddressDetail.FULL
    ) -> None:
        self._addresses = addresses
        self._metrics = metrics
        if metrics is not None:
            # Each counter is created with the value 0. If a counter began with the value 1,
            # Prometheus would see no increase.
            for kind in RecordKind:
                metrics.unreadable_records.labels(kind.value)
        self._throttle = LogThrottle(_LOG_INTERVAL_SECONDS)

    def session(self, user_id: str, key: bytes, raw: bytes) -> Stored[SessionRecord] | Unreadable:
        """Decodes `raw`, the record of the session on the device with this key."""
        return self._read(RecordKind.SESSION, user_id, key, raw, codec.decode_session)

    def device(self, user_id: str, key: bytes, raw: bytes) -> Stored[DeviceRecord] | Unreadable:
        """Decodes `raw`, the record of the device with this key."""

        def decode(raw: bytes) -> DeviceRecord:
            record = codec.decode_device(raw)
            if device_key(record.device_id) != key:
                raise codec.UnreadableRecord("a DeviceRecord of another device")
            return record.kept(self._addresses)

        return self._read(RecordKind.DEVICE, user_id, key, raw, decode)

    def claims(self, user_id: str, key: bytes, raw: bytes) -> Stored[SessionClaims]:
        """Decodes `raw`, the stored claims of the session on the device with this key. If the
        claims can't be read, the result has no claims and an empty session ID. The claims in the
        session's tokens stay good.
        """
        found = self.readable_claims(user_id, key, raw)
        return found if isinstance(found, Stored) else Stored(_OF_NO_SESSION, raw)

    def readable_claims(
        self, user_id: str, key: bytes, raw: bytes
    ) -> Stored[SessionClaims] | Unreadable:
        """Decodes `raw`, the stored claims of the session on the device with this key. If the
        claims can't be read, the result is an Unreadable with the reason.
        """
        return self._read(RecordKind.CLAIMS, user_id, key, raw, codec.decode_claims)

    def issued(self, user_id: str, raw: bytes) -> Stored[IssuedRecord] | Unreadable:
        """Decodes `raw`, the result of a sign-in with a `request_id`."""
        return self._read(RecordKind.REQUEST, user_id, None, raw, codec.decode_issued)

    def note_other_type(self, kind: RecordKind, user_id: str) -> None:
        """Reports that the Redis key for this kind of records has a type that the service can't
        read. A key of another type has no records.
        """
        self._tell(kind, user_id, None, OTHER_TYPE.reason)

    def _read(
        self,
        kind: RecordKind,
        user_id: str,
        key: bytes | None,
        raw: bytes,
        decode: Callable[[bytes], _T],
    ) -> Stored[_T] | Unreadable:
        try:
            if key is not None and len(key) != DEVICE_KEY_BYTES:
                raise codec.UnreadableRecord("a field that is no device key")
            return Stored(decode(raw), raw)
        except codec.UnreadableRecord as error:
            self._tell(kind, user_id, key, str(error))
            return Unreadable(raw, str(error), isinstance(error, codec.LaterRecord))

    def _tell(self, kind: RecordKind, user_id: str, key: bytes | None, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.unreadable_records.labels(kind.value).inc()
        left_out = self._throttle.count("record", monotonic())
        if left_out is None:
            return
        about: dict[str, Any] = {"kind": kind.value, "user_hash": user_hash(user_id)}
        if key is not None:
            about["device_key"] = key[:DEVICE_KEY_BYTES].hex()
        _log.error("record_unreadable", **about, reason=reason, left_out=left_out)
