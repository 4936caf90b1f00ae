"""How records look in Redis.

A session record is a fixed struct of 59 or 60 bytes: Redis keeps a hash compact only while every
value is below 64. So claims, once they were changed, are a record of their own. Its times are
offsets from the sign-in in units of 10 ms, so they are cut to that; a record that was read encodes
to the same bytes again. Everything else is protobuf (`records.proto`).
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast
from uuid import UUID

from google.protobuf.message import DecodeError

from session_authority.domain.devices import DeviceRecord
from session_authority.domain.events import Event, EventType
from session_authority.domain.idle_timeouts import STEPS, step_of
from session_authority.domain.moments import from_ms, to_ms
from session_authority.domain.session_claims import SessionClaims
from session_authority.domain.session_limits import ReplayAction
from session_authority.domain.sessions import REPLACED_ID_BYTES, SessionRecord, StoredClaims
from session_authority.domain.verdicts import ReplayCause
from session_authority.internal.v1 import records_pb2
from session_authority.store.client_records import client_of, client_record
from session_authority.store.records import IssuedRecord

_UNIT = timedelta(milliseconds=10)

# version and where the claims are, session ID, replaced session, generation, holder, predecessor,
# sign-in (6 bytes: high and low part); then offsets: date of the generation, its token's end,
# absolute end, first seen, last seen
_SESSION = struct.Struct(">B16s8sIHHHIIIIII")
# Version 2 has one byte more: the number of the session's own idle timeout.
_VERSION, _IDLE_VERSION = 1, 2
# The byte of the version has, above these bits, where the claims are: readers that don't know of
# claims in the store refuse such a record, rather than lose the claims.
_CLAIMS_SHIFT = 4
# What each first byte says.
_HEADS = {
    stored.value << _CLAIMS_SHIFT | version: (stored, version)
    for stored in StoredClaims
    for version in (_VERSION, _IDLE_VERSION)
}
_NO_SESSION = bytes(REPLACED_ID_BYTES)
_NO_COPY = 0
_NOT_SEEN = 0xFFFFFFFF
_LAST_OFFSET = _NOT_SEEN - 1
# No clock of this service shows a later time. What is reckoned from one that is read, like an idle
# end, so has a datetime too.
_LAST_MS = to_ms(datetime(9000, 1, 1, tzinfo=UTC))


class UnreadableRecord(Exception):
    """A record was written by a later version of the service, or by something else."""


def _read_ms(milliseconds: int) -> datetime:
    """The moment that a record names; raises UnreadableRecord for one that never was."""
    if not 0 <= milliseconds <= _LAST_MS:
        raise UnreadableRecord("a record of a time that never was")
    return from_ms(milliseconds)


def encode_session(record: SessionRecord) -> bytes:
    """59 bytes, or 60 with an idle timeout. Times before the sign-in or more than 497 days after it
    are clamped.
    """
    sign_in_ms = to_ms(record.signed_in_at)
    start = from_ms(sign_in_ms)

    def offset(moment: datetime) -> int:
        return min(max((moment - start) // _UNIT, 0), _LAST_OFFSET)

    version = _VERSION if record.idle_timeout is None else _IDLE_VERSION
    fixed = _SESSION.pack(
        record.stored_claims.value << _CLAIMS_SHIFT | version,
        record.session_id,
        record.replaced or _NO_SESSION,
        record.generation,
        record.holder or _NO_COPY,
        record.predecessor or _NO_COPY,
        sign_in_ms >> 32,
        sign_in_ms & 0xFFFFFFFF,
        offset(record.dated_at),
        offset(record.token_ends_at),
        offset(record.ends_at),
        _NOT_SEEN if record.first_seen_at is None else offset(record.first_seen_at),
        offset(record.last_seen_at),
    )
    return fixed if record.idle_timeout is None else fixed + bytes([step_of(record.idle_timeout)])


def decode_session(raw: bytes) -> SessionRecord:
    """The record; raises UnreadableRecord."""
    idle_timeout = None
    stored_claims, version = _HEADS.get(raw[0] if raw else 0, (StoredClaims.NONE, 0))
    if len(raw) == _SESSION.size + 1 and version == _IDLE_VERSION and raw[-1]:
        idle_timeout, raw = STEPS[raw[-1] - 1], raw[:-1]
    elif len(raw) != _SESSION.size or version != _VERSION:
        raise UnreadableRecord(
            f"a session record of {len(raw)} bytes, version {raw[0] if raw else 'none'}"
        )
    _, session_id, replaced, generation, holder, predecessor, high, low, *offsets = _SESSION.unpack(
        raw
    )
    start = _read_ms(high << 32 | low)
    dated, token_end, end, first_seen, last_seen = offsets
    if _NOT_SEEN in (dated, token_end, end, last_seen):
        raise UnreadableRecord("a session record without a time that it must have")
    return SessionRecord(
        session_id=session_id,
        replaced=None if replaced == _NO_SESSION else replaced,
        generation=generation,
        holder=None if holder == _NO_COPY else holder,
        predecessor=None if predecessor == _NO_COPY else predecessor,
        signed_in_at=start,
        dated_at=start + dated * _UNIT,
        token_ends_at=start + token_end * _UNIT,
        ends_at=start + end * _UNIT,
        first_seen_at=None if first_seen == _NOT_SEEN else start + first_seen * _UNIT,
        last_seen_at=start + last_seen * _UNIT,
        idle_timeout=idle_timeout,
        stored_claims=stored_claims,
    )


def encode_claims(claims: SessionClaims) -> bytes:
    """A `ClaimsRecord` message."""
    return records_pb2.ClaimsRecord(
        session_id=claims.session_id, claims=claims.claims, auth_methods=claims.auth_methods
    ).SerializeToString()


def decode_claims(raw: bytes) -> SessionClaims:
    """The record; raises UnreadableRecord."""
    try:
        record = records_pb2.ClaimsRecord.FromString(raw)
    except DecodeError:
        raise UnreadableRecord(f"a ClaimsRecord of {len(raw)} bytes") from None
    return SessionClaims(record.session_id, dict(record.claims), tuple(record.auth_methods))


_M = TypeVar("_M", records_pb2.DeviceRecord, records_pb2.IssuedRecord)


def _read(message: type[_M], raw: bytes) -> tuple[_M, UUID]:
    """The message, and the device that it is about."""
    try:
        record = message.FromString(raw)
        return record, UUID(bytes=record.device_id)
    except (DecodeError, ValueError):
        raise UnreadableRecord(f"a {message.__name__} of {len(raw)} bytes") from None


def encode_device(device: DeviceRecord) -> bytes:
    """A `DeviceRecord` message."""
    return records_pb2.DeviceRecord(
        device_id=device.device_id.bytes,
        display_name=device.display_name,
        last_client=client_record(device.last_client),
        first_seen_ms=to_ms(device.first_seen_at),
        last_sign_in_ms=to_ms(device.last_signed_in_at),
        last_seen_ms=to_ms(device.last_seen_at),
    ).SerializeToString()


def decode_device(raw: bytes) -> DeviceRecord:
    """The record; raises UnreadableRecord."""
    record, device_id = _read(records_pb2.DeviceRecord, raw)
    return DeviceRecord(
        device_id=device_id,
        display_name=record.display_name,
        last_client=client_of(record.last_client),
        first_seen_at=_read_ms(record.first_seen_ms),
        last_signed_in_at=_read_ms(record.last_sign_in_ms),
        last_seen_at=_read_ms(record.last_seen_ms),
    )


def encode_issued(issued: IssuedRecord) -> bytes:
    """An `IssuedRecord` message."""
    return records_pb2.IssuedRecord(
        request_digest=issued.request_digest,
        session_id=issued.session_id,
        device_id=issued.device_id.bytes,
        device_id_assigned=issued.device_id_assigned,
        new_device=issued.new_device,
        evicted_device_keys=issued.evicted,
    ).SerializeToString()


def decode_issued(raw: bytes) -> IssuedRecord:
    """The record; raises UnreadableRecord."""
    record, device_id = _read(records_pb2.IssuedRecord, raw)
    return IssuedRecord(
        request_digest=record.request_digest,
        session_id=record.session_id,
        device_id=device_id,
        device_id_assigned=record.device_id_assigned,
        new_device=record.new_device,
        evicted=tuple(record.evicted_device_keys),
    )


def encode_event(event: Event) -> bytes:
    """An `EventRecord` message. The enums of both sides share their names."""
    device_client = (
        None if event.device_client == event.client else client_record(event.device_client)
    )
    return records_pb2.EventRecord(
        type=_event_type(event.type),
        time_ms=to_ms(event.happened_at),
        user_id=event.user_id,
        device_id=b"" if event.device_id is None else event.device_id.bytes,
        device_display_name=event.device_display_name,
        client=client_record(event.client),
        session_id=event.session_id or b"",
        actor=event.actor,
        reason=event.reason,
        new_device=event.new_device,
        first_device=event.first_device,
        replay_cause=_replay_cause(event.replay_cause),
        replay_action="" if event.replay_action is None else event.replay_action.value,
        except_device_id=b"" if event.except_device_id is None else event.except_device_id.bytes,
        device_client=device_client,
        key_id=event.key_id,
    ).SerializeToString()


def decode_event(raw: bytes) -> Event:
    """The event; raises UnreadableRecord. A type, cause or action of a later version is unknown, or
    None.
    """
    try:
        record = records_pb2.EventRecord.FromString(raw)
        client = client_of(record.client)
        return Event(
            type=_EVENT_TYPES.get(record.type, EventType.UNKNOWN),
            happened_at=_read_ms(record.time_ms),
            user_id=record.user_id,
            actor=record.actor,
            device_id=UUID(bytes=record.device_id) if record.device_id else None,
            device_display_name=record.device_display_name,
            device_client=client_of(record.device_client)
            if record.HasField("device_client")
            else client,
            client=client,
            session_id=record.session_id or None,
            reason=record.reason,
            new_device=record.new_device,
            first_device=record.first_device,
            replay_cause=_REPLAY_CAUSES.get(record.replay_cause),
            replay_action=_REPLAY_ACTIONS.get(record.replay_action),
            except_device_id=UUID(bytes=record.except_device_id)
            if record.except_device_id
            else None,
            key_id=record.key_id,
        )
    except (DecodeError, ValueError):
        raise UnreadableRecord(f"an EventRecord of {len(raw)} bytes") from None


def _event_type(kind: EventType) -> records_pb2.EventType:
    return cast("records_pb2.EventType", records_pb2.EventType.Value(f"EVENT_TYPE_{kind.name}"))


def _replay_cause(cause: ReplayCause | None) -> records_pb2.ReplayCause:
    name = "UNSPECIFIED" if cause is None else cause.name
    return cast("records_pb2.ReplayCause", records_pb2.ReplayCause.Value(f"REPLAY_CAUSE_{name}"))


_EVENT_TYPES = {_event_type(kind): kind for kind in EventType if kind is not EventType.UNKNOWN}
_REPLAY_CAUSES = {_replay_cause(cause): cause for cause in ReplayCause}
_REPLAY_ACTIONS = {action.value: action for action in ReplayAction}
