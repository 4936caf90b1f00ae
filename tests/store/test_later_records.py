"""Records of a later version, as an upgrade that was rolled back leaves them: written by version N
+ 1, read by this version, N, written back by it, and read by N + 1 again.

The tests write the records of N + 1 by hand, by the rules of the codec.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from session_authority.domain.devices import Alarm, SignInMethods
from session_authority.domain.idle_timeouts import STEPS
from session_authority.domain.sessions import SessionRecord
from session_authority.domain.verdicts import ReplayCause
from session_authority.internal.v1 import records_pb2
from session_authority.store.codec import (
    LaterRecord,
    UnreadableRecord,
    decode_device,
    decode_session,
    encode_device,
    encode_session,
    sealed,
)
from tests.store.samples import NOW, SECOND, device, session

PLAIN, IDLE = session(3, generation=7), session(3, generation=7, idle_timeout=STEPS[9])


def by_the_next_version(
    record: SessionRecord, *, marks: int = 0, appended: bytes = b"", form: int | None = None
) -> bytes:
    """The record as N + 1 writes it: with marks, appended bytes or a format unknown to N."""
    body = encode_session(record)[:-2]
    head = marks | (body[0] if form is None else form)
    return sealed(bytes([head]) + body[1:] + appended)


# ----- what an earlier reader may ignore


@pytest.mark.parametrize("record", [PLAIN, IDLE], ids=["plain", "idle"])
@pytest.mark.parametrize("marks", [0x00, 0x40, 0x80, 0xC0])
@pytest.mark.parametrize("appended", [b"", b"\0", b"\7", b"\1\2"])
def test_marks_and_appended_bytes_are_kept(
    record: SessionRecord, marks: int, appended: bytes
) -> None:
    if record is IDLE:
        appended = appended[:1]
    raw = by_the_next_version(record, marks=marks, appended=appended)
    assert len(raw) <= 63
    read = decode_session(raw)
    assert replace(read, later=b"") == record
    assert encode_session(read) == raw
    # Every change of a record is a `replace`, so these are the bytes that N writes back.
    used = replace(read, generation=8, holder=5, first_seen_at=NOW, last_seen_at=NOW + SECOND)
    known = replace(record, generation=8, holder=5, first_seen_at=NOW, last_seen_at=NOW + SECOND)
    assert encode_session(used) == by_the_next_version(known, marks=marks, appended=appended)


@pytest.mark.parametrize("number", [12, 100, 2**29 - 1])
def test_unknown_fields_of_a_device_are_kept(number: int) -> None:
    written = encode_device(device()) + varint(number << 3 | 2) + b"\x03abc"
    read = decode_device(written)
    assert replace(read, later=b"") == device()
    renamed = encode_device(replace(read, display_name="Renamed"))
    assert decode_device(renamed) == replace(read, display_name="Renamed")
    assert renamed == encode_device(device(display_name="Renamed")) + written[-len(read.later) :]


def varint(number: int) -> bytes:
    """A number in the encoding of protobuf."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def test_no_number_of_a_field_is_used_twice() -> None:
    """Otherwise an earlier version would read a field as another field."""
    fields = records_pb2.DeviceRecord.DESCRIPTOR.fields
    assert {field.number for field in fields} == set(range(1, 12))


def test_a_sign_in_of_the_version_before_replaces_the_sign_in_that_is_shown() -> None:
    """The version before does not know the fields `last_sign_in` and `last_alarm`. It keeps both
    fields through a sign-in of its own.
    """
    first, second = session(3), session(4, session_id=b"\7" * 16)
    methods = SignInMethods.of(first.session_id, ("pwd", "otp"))
    alarm = Alarm(NOW, ReplayCause.SECOND_COPY)
    written = device(last_sign_in=methods, last_alarm=alarm)
    assert decode_device(encode_device(written)) == written
    assert written.auth_methods_of(first) == ("pwd", "otp")
    known_to_n = encode_device(device(last_signed_in_at=NOW + SECOND))
    kept = records_pb2.DeviceRecord.FromString(encode_device(written))
    unknown_to_n = records_pb2.DeviceRecord(
        last_sign_in=kept.last_sign_in, last_alarm=kept.last_alarm
    ).SerializeToString()
    read = decode_device(known_to_n + unknown_to_n)
    assert (read.last_signed_in_at, read.last_alarm) == (NOW + SECOND, alarm)
    assert read.auth_methods_of(second) == ()


def test_a_device_of_the_version_before_has_neither_methods_nor_an_alarm() -> None:
    read = decode_device(encode_device(device()))
    assert (read.auth_methods_of(session(3)), read.recent_alarm(NOW)) == ((), None)


def test_an_alarm_with_a_cause_of_a_later_version_is_an_alarm() -> None:
    record = records_pb2.DeviceRecord.FromString(encode_device(device(last_alarm=Alarm(NOW, None))))
    record.last_alarm.cause = 99  # type: ignore[assignment]
    assert decode_device(record.SerializeToString()).last_alarm == Alarm(NOW, None)


# ----- what an earlier reader must not ignore


@pytest.mark.parametrize("form", range(5, 16))
@pytest.mark.parametrize("marks", [0x00, 0xC0])
@pytest.mark.parametrize("appended", [b"", b"\1\2"])
def test_another_format_is_a_later_version_and_unreadable(
    form: int, marks: int, appended: bytes
) -> None:
    with pytest.raises(LaterRecord, match=f"format {form}, of a later version"):
        decode_session(by_the_next_version(PLAIN, form=form, marks=marks, appended=appended))


def test_a_record_that_only_looks_like_another_format_is_damaged() -> None:
    raw = encode_session(PLAIN)
    for head in set(range(256)) - {raw[0]}:
        with pytest.raises(UnreadableRecord, match="is damaged, or is none") as caught:
            decode_session(bytes([head]) + raw[1:])
        assert not isinstance(caught.value, LaterRecord)


def test_a_device_of_another_format_is_a_later_version_and_unreadable() -> None:
    record = records_pb2.DeviceRecord.FromString(encode_device(device()))
    record.format = 1
    with pytest.raises(LaterRecord, match="format 1, of a later version"):
        decode_device(record.SerializeToString())


# --- the space that is left -----------------------------------------------------------------------


def test_a_session_record_has_space_for_appended_fields() -> None:
    """The limit is 63 bytes in all, 2 of them a CRC."""
    for record, room in ((PLAIN, 2), (IDLE, 1)):
        full = by_the_next_version(record, appended=bytes(room))
        assert (len(full), decode_session(full).later) == (63, bytes(1 + room))
        with pytest.raises(UnreadableRecord):
            decode_session(by_the_next_version(record, appended=bytes(room + 1)))
