"""Encodes and decodes the records that the service stores in Redis.

A session record is a struct of at most 63 bytes, because Redis keeps a hash compact only while no
value is longer than 64 bytes. The struct has the time of the sign-in in ms. All other times are
offsets from the sign-in, truncated to units of 10 ms. If a session record of format 3 or 4 is
decoded and encoded again, its bytes stay the same. The records that are not session records are
protobuf messages (`records.proto`).

    byte 0        lower 4 bits: the format (3, or 4 with an idle timeout). Upper 4 bits: flags,
                  which are called marks. The marks 0x10 and 0x20 say where the claims of the
                  session are, see `StoredClaims`
    58 bytes      the fields, see `_SESSION`
    1 byte        format 4 only: the number of the session's own idle timeout, see `STEPS`
    0 to 2 bytes  what a later version of the service appends (at most 1 byte in format 4)
    2 bytes       CRC-16 (XMODEM with the start value 0xFFFF) of all bytes before the CRC

Formats 1 and 2 are formats 3 and 4 without marks, appended bytes and CRC. This version of the
service reads formats 1 to 4, and writes formats 3 and 4.

If an upgrade is rolled back, an earlier version of the service reads records that a later version
wrote. So each later version keeps these rules (docs/records.md gives the reasons):
1. A new fact that an earlier version may ignore is stored as a mark or as appended bytes. The
   earlier version judges tokens by the fields that it knows. When it changes the record, it keeps
   unknown marks and appended bytes.
2. A new fact that an earlier version must not ignore needs a new format number. The earlier version
   denies all tokens of a session whose format it does not know.
3. Byte 0 and the CRC keep their position and their meaning in every format.
4. In a `DeviceRecord`, a fact as in rule 1 gets a field with a new number. A fact as in rule 2
   needs a higher number in the field `format`.
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast
from uuid import UUID

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from session_authority.domain.devices import Alarm, DeviceRecord, SignInMethods
from session_authority.domain.events import Event, EventType
from session_authority.domain.idle_timeouts import STEPS, step_of
from session_authority.domain.moments import from_ms, to_ms
from session_authority.domain.session_claims import SessionClaims
from session_authority.domain.session_limits import ReplayAction
from session_authority.domain.sessions import REPLACED_ID_BYTES, SessionRecord, StoredClaims
from session_authority.domain.verdicts import ReplayCause
from session_authority.internal.v1 import records_pb2
from session_authority.store.client_records import (
    client_beside,
    client_of,
    client_record,
    packed_client,
)
from session_authority.store.records import IssuedRecord

_UNIT_MS = 10
_UNIT = timedelta(milliseconds=_UNIT_MS)

# The fields are: marks and format, session ID, replaced session, generation, holder, predecessor,
# time of the sign-in (6 bytes: high and low part). After these fields come five offsets from the
# sign-in: start of the generation, end of its tokens, absolute end of the session, first seen, last
# seen.
_SESSION = struct.Struct(">B16s8sIHHHIIIIII")
# Unpacks from a whole session record only the fields that decide how long the session lives. The
# unpacked fields are: marks and format, sign-in, start of the generation, end of its tokens,
# absolute end, last seen. In a readable record, none of the last four offsets is `_NOT_SEEN`.
_LIFETIME = struct.Struct(">B32xHIIII4xI2x")
_PLAIN, _IDLE = 3, 4
_UNCHECKED = {1: _PLAIN, 2: _IDLE}
_FORMAT_BITS, _LATER_MARKS = 0x0F, 0xC0
# The two marks of byte 0 that say where the claims of a session are, and their position in the
# byte.
_CLAIMS_MARKS, _CLAIMS_SHIFT = 0x30, 4
_CHECK = struct.Struct(">H")
MAX_SESSION_BYTES = 63
# The values that byte 0 of a session record of format 3 can have, including the marks of a later
# version of the service.
_PLAIN_HEADS = frozenset(
    later | claims.value << _CLAIMS_SHIFT | _PLAIN
    for later in range(0, 0x100, 0x40)
    for claims in StoredClaims
)
# The highest `format` of a `DeviceRecord` that this version of the service can read.
_DEVICE_FORMAT = 0
_NO_SESSION = bytes(REPLACED_ID_BYTES)
_NO_COPY = 0
_NOT_SEEN = 0xFFFFFFFF
_LAST_OFFSET = _NOT_SEEN - 1
# The latest time that `_read_ms` accepts. A time that is computed from an accepted time, such as an
# idle end, still fits a `datetime`.
_LAST_MS = to_ms(datetime(9000, 1, 1, tzinfo=UTC))
_LATE_HIGH = _LAST_MS >> 32


class UnreadableRecord(Exception):
    """A record can't be decoded. The record is damaged, or another program wrote it, or a later
    version of the service wrote the record (LaterRecord). The message of the exception never
    contains the record.
    """


class LaterRecord(UnreadableRecord):
    """A record is intact, but a later version of the service wrote the record in a format that this
    version can't read.
    """


def _read_ms(milliseconds: int) -> datetime:
    """Decodes a time that a record stores in ms since the epoch. Raises UnreadableRecord if
    `milliseconds` is negative or greater than `_LAST_MS`.
    """
    if not 0 <= milliseconds <= _LAST_MS:
        raise UnreadableRecord("a record of a time that never was")
    return from_ms(milliseconds)


def encode_session(record: SessionRecord) -> bytes:
    """Encodes a session record into 61 bytes, or into 62 bytes if the session has its own idle
    timeout. The bytes that a later version of the service appended make the result longer. A time
    before the sign-in is stored as the time of the sign-in. A time more than 497 days after the
    sign-in is stored as 497 days after the sign-in.
    """
    sign_in_ms = to_ms(record.signed_in_at)
    start = from_ms(sign_in_ms)

    def offset(moment: datetime) -> int:
        return min(max((moment - start) // _UNIT, 0), _LAST_OFFSET)

    marks, appended = record.later[:1], record.later[1:]
    head = (_PLAIN if record.idle_timeout is None else _IDLE) | (marks[0] if marks else 0)
    fixed = _SESSION.pack(
        head | record.stored_claims.value << _CLAIMS_SHIFT,
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
    idle = b"" if record.idle_timeout is None else bytes([step_of(record.idle_timeout)])
    return sealed(fixed + idle + appended)


def sealed(body: bytes | bytearray) -> bytes:
    """Returns `body`, which is a session record without its CRC, followed by the CRC."""
    return bytes(body) + _CHECK.pack(crc_hqx(body, 0xFFFF))


def _opened(raw: bytes) -> tuple[int, bytes, bytes]:
    """Splits a session record into its format, the bytes of its fields, and the marks and appended
    bytes that a later version of the service wrote. Format 1 is returned as 3, and format 2 as 4.
    Raises LaterRecord for a format above 4, and UnreadableRecord if the record is damaged.
    """
    form = _UNCHECKED.get(raw[0]) if raw else None
    if form is not None and len(raw) == _SESSION.size + (form == _IDLE):
        return form, raw, b""
    body = raw[: -_CHECK.size]
    if not _SESSION.size <= len(body) <= MAX_SESSION_BYTES - _CHECK.size or sealed(body) != raw:
        raise UnreadableRecord(f"a session record of {len(raw)} bytes is damaged, or is none")
    form, marks = body[0] & _FORMAT_BITS, body[0] & _LATER_MARKS
    if form > _IDLE:
        raise LaterRecord(f"a session record of format {form}, of a later version")
    size = _SESSION.size + (form == _IDLE)
    if form < _PLAIN or len(body) < size:
        raise UnreadableRecord(f"a session record of {len(raw)} bytes and format {form}")
    appended = body[size:]
    return form, body[:size], bytes([marks]) + appended if marks or appended else b""


def plain_lifetimes(
    raws: Iterable[bytes],
) -> tuple[list[tuple[int, int, int]], list[bytes]]:
    """Returns the lifetimes of the sessions whose record has the usual form, and the bytes of all
    other records. The records that do not have the usual form may be unreadable. The usual form is
    an intact record of format 3 without appended bytes.

    A lifetime has three numbers. The first is the time of the sign-in, in ms since the epoch. The
    second and the third are the absolute end and the last use, in ms after the sign-in. Use this
    function for thousands of sessions at once, because `decode_session` takes ten times as long.
    """
    lifetimes, others = [], []
    for raw in raws:
        # The CRC of a whole intact record, including the two CRC bytes at its end, is 0.
        if len(raw) == _LIFETIME.size and not crc_hqx(raw, 0xFFFF):
            head, high, low, dated, token_end, end, last_seen = _LIFETIME.unpack(raw)
            if (
                head in _PLAIN_HEADS
                and high < _LATE_HIGH
                and _NOT_SEEN not in (dated, token_end, end, last_seen)
            ):
                lifetimes.append((high << 32 | low, end * _UNIT_MS, last_seen * _UNIT_MS))
                continue
        others.append(raw)
    return lifetimes, others


def _stored_claims(head: int) -> StoredClaims:
    try:
        return StoredClaims((head & _CLAIMS_MARKS) >> _CLAIMS_SHIFT)
    except ValueError:
        raise UnreadableRecord("a session record with claims that are nowhere") from None


def decode_session(raw: bytes) -> SessionRecord:
    """Decodes a session record. Raises LaterRecord if `raw` has the format of a later version of
    the service, and UnreadableRecord if `raw` is damaged.
    """
    form, fields, later = _opened(raw)
    idle_timeout = None
    if form == _IDLE:
        if not fields[-1]:
            raise UnreadableRecord("a session record with an idle timeout of nothing")
        idle_timeout = STEPS[fields[-1] - 1]
    _, session_id, replaced, generation, holder, predecessor, high, low, *offsets = (
        _SESSION.unpack_from(fields)
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
        stored_claims=_stored_claims(fields[0]),
        later=later,
    )


def encode_claims(claims: SessionClaims) -> bytes:
    """Encodes the claims of a session as a `ClaimsRecord` message."""
    return records_pb2.ClaimsRecord(
        session_id=claims.session_id, claims=claims.claims, auth_methods=claims.auth_methods
    ).SerializeToString()


def decode_claims(raw: bytes) -> SessionClaims:
    """Decodes a `ClaimsRecord` message. Raises UnreadableRecord if `raw` can't be decoded."""
    try:
        record = records_pb2.ClaimsRecord.FromString(raw)
    except DecodeError:
        raise UnreadableRecord(f"a ClaimsRecord of {len(raw)} bytes") from None
    return SessionClaims(record.session_id, dict(record.claims), tuple(record.auth_methods))


_M = TypeVar("_M", records_pb2.DeviceRecord, records_pb2.IssuedRecord)


def _read(message: type[_M], raw: bytes) -> tuple[_M, UUID]:
    """Decodes a message of a given type, and returns the message and the device ID in it. Raises
    UnreadableRecord if `raw` can't be decoded, or if the device ID is not a UUID.
    """
    try:
        record = message.FromString(raw)
        return record, UUID(bytes=record.device_id)
    except (DecodeError, ValueError):
        raise UnreadableRecord(f"a {message.__name__} of {len(raw)} bytes") from None


def encode_device(device: DeviceRecord) -> bytes:
    """Encodes a device as a `DeviceRecord` message."""
    client, agent, looks = packed_client(device.last_client)
    known = records_pb2.DeviceRecord(
        device_id=device.device_id.bytes,
        display_name=device.display_name,
        last_client=client,
        first_seen_ms=to_ms(device.first_seen_at),
        last_sign_in_ms=to_ms(device.last_signed_in_at),
        last_seen_ms=to_ms(device.last_seen_at),
        last_sign_in=_sign_in_record(device.last_sign_in),
        last_alarm=_alarm_record(device.last_alarm),
        packed_agent=agent,
        packed_looks=looks,
    ).SerializeToString()
    return known + device.later


def _sign_in_record(methods: SignInMethods | None) -> records_pb2.SignInRecord | None:
    if methods is None:
        return None
    return records_pb2.SignInRecord(
        session_id=methods.session_id, auth_methods=methods.auth_methods
    )


def _alarm_record(alarm: Alarm | None) -> records_pb2.AlarmRecord | None:
    if alarm is None:
        return None
    return records_pb2.AlarmRecord(
        time_ms=to_ms(alarm.happened_at), cause=_replay_cause(alarm.cause)
    )


def decode_device(raw: bytes) -> DeviceRecord:
    """Decodes a `DeviceRecord` message. Raises LaterRecord if `raw` has the format of a later
    version of the service, and UnreadableRecord if `raw` can't be decoded.
    """
    record, device_id = _read(records_pb2.DeviceRecord, raw)
    if record.format > _DEVICE_FORMAT:
        raise LaterRecord(f"a DeviceRecord of format {record.format}, of a later version")
    return DeviceRecord(
        device_id=device_id,
        display_name=record.display_name,
        last_client=client_beside(record.last_client, record.packed_agent, record.packed_looks),
        first_seen_at=_read_ms(record.first_seen_ms),
        last_signed_in_at=_read_ms(record.last_sign_in_ms),
        last_seen_at=_read_ms(record.last_seen_ms),
        last_sign_in=_sign_in_methods(record),
        last_alarm=_alarm(record),
        later=_unknown_fields(record),
    )


def _sign_in_methods(record: records_pb2.DeviceRecord) -> SignInMethods | None:
    if not record.HasField("last_sign_in"):
        return None
    found = record.last_sign_in
    return SignInMethods(found.session_id, tuple(found.auth_methods))


def _alarm(record: records_pb2.DeviceRecord) -> Alarm | None:
    if not record.HasField("last_alarm"):
        return None
    found = record.last_alarm
    return Alarm(_read_ms(found.time_ms), _REPLAY_CAUSES.get(found.cause))


def _unknown_fields(record: records_pb2.DeviceRecord) -> bytes:
    """Returns the encoded fields that a later version of the service added to `record`. Fields that
    were added to a message inside `record` are not returned. If the result is not empty, this
    function has removed all known fields from `record`.
    """
    if not len(UnknownFieldSet(record)):
        return b""
    for field in record.DESCRIPTOR.fields:
        record.ClearField(field.name)
    return record.SerializeToString()


def encode_issued(issued: IssuedRecord) -> bytes:
    """Encodes the result of a sign-in as an `IssuedRecord` message."""
    return records_pb2.IssuedRecord(
        request_digest=issued.request_digest,
        session_id=issued.session_id,
        device_id=issued.device_id.bytes,
        device_id_assigned=issued.device_id_assigned,
        new_device=issued.new_device,
        evicted_device_keys=issued.evicted,
    ).SerializeToString()


def decode_issued(raw: bytes) -> IssuedRecord:
    """Decodes an `IssuedRecord` message. Raises UnreadableRecord if `raw` can't be decoded."""
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
    """Encodes an event as an `EventRecord` message. An enum value of the message has the same name
    as the value in `domain`, after a prefix such as `EVENT_TYPE_`.
    """
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
    """Decodes an `EventRecord` message. A type that only a later version of the service knows
    becomes UNKNOWN. An unknown cause of a replay, or an unknown action, becomes None. Raises
    UnreadableRecord if `raw` can't be decoded.
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
