"""How records look in Redis: their size, the values that they keep, and the values that they
round.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from session_authority.domain.clients import Client as EndUserClient
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.events import Event, EventType
from session_authority.domain.idle_timeouts import STEPS
from session_authority.domain.moments import to_ms
from session_authority.domain.session_claims import SessionClaims
from session_authority.domain.session_limits import MAX_SESSION_TTL, ReplayAction, SessionLimits
from session_authority.domain.sessions import (
    MAX_COPY,
    REPLACED_ID_BYTES,
    SessionRecord,
    StoredClaims,
)
from session_authority.domain.verdicts import ReplayCause
from session_authority.internal.v1 import records_pb2
from session_authority.store import KeyNames
from session_authority.store.codec import (
    UnreadableRecord,
    decode_claims,
    decode_device,
    decode_event,
    decode_issued,
    decode_session,
    encode_claims,
    encode_device,
    encode_event,
    encode_issued,
    encode_session,
    sealed,
)
from session_authority.store.records import IssuedRecord
from tests.store.samples import DAY, NOW, device, issued, key, session
from tests.support.backends import Backend

# The most bytes of a session record without appended bytes. Redis keeps a hash compact only while
# no value is longer than 64 bytes.
LONGEST = 62
MOST_FOR_A_SESSION = 140  # Bytes of Redis's memory for a session of a user with three devices.
UNIT = timedelta(milliseconds=10)
REACH = (2**32 - 2) * UNIT
SIGN_IN = 33  # The offset of the field in a session record.
LAST_MS = 253402300799999  # In the year 9999.

moments = st.timedeltas(timedelta(0), 36_500 * DAY).map(
    lambda since: datetime(2020, 1, 1, tzinfo=UTC) + since
)
steps = st.one_of(
    st.timedeltas(-DAY, MAX_SESSION_TTL),
    st.timedeltas(timedelta(0), timedelta(seconds=1)),
    st.sampled_from([-DAY, timedelta(0), REACH - UNIT, REACH, REACH + UNIT, 600 * DAY]),
)


@st.composite
def session_records(draw: st.DrawFn) -> SessionRecord:
    sign_in = draw(moments)
    replaced = draw(st.none() | st.binary(min_size=REPLACED_ID_BYTES, max_size=REPLACED_ID_BYTES))
    assume(replaced != bytes(REPLACED_ID_BYTES))  # The first of 128 random bits.
    return SessionRecord(
        session_id=draw(st.binary(min_size=16, max_size=16)),
        replaced=replaced,
        generation=draw(st.integers(1, 2**32 - 1)),
        holder=draw(st.none() | st.integers(1, MAX_COPY)),
        predecessor=draw(st.none() | st.integers(1, MAX_COPY)),
        signed_in_at=sign_in,
        dated_at=sign_in + draw(steps),
        token_ends_at=sign_in + draw(steps),
        ends_at=sign_in + draw(steps),
        first_seen_at=draw(st.none() | steps.map(lambda step: sign_in + step)),
        last_seen_at=sign_in + draw(steps),
        idle_timeout=draw(st.none() | st.sampled_from(STEPS)),
        stored_claims=draw(st.sampled_from(StoredClaims)),
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
clients = st.builds(EndUserClient, texts, texts, texts, texts)
milliseconds = moments.map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
claims_records = st.builds(
    SessionClaims,
    st.binary(min_size=16, max_size=16),
    st.dictionaries(texts, texts, max_size=5),
    st.lists(texts, max_size=8).map(tuple),
)
device_records = st.builds(
    DeviceRecord, st.uuids(), texts, clients, milliseconds, milliseconds, milliseconds
)
issued_records = st.builds(
    IssuedRecord,
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=16, max_size=16),
    st.uuids(),
    st.booleans(),
    st.booleans(),
    st.lists(st.binary(min_size=16, max_size=16), max_size=5).map(tuple),
)


def cut(record: SessionRecord) -> SessionRecord:
    """What a record keeps of times: steps of 10 ms from the sign-in, in whole ms, and no time
    before the sign-in or far after it.
    """
    start = record.signed_in_at.replace(microsecond=record.signed_in_at.microsecond // 1000 * 1000)

    def time(moment: datetime) -> datetime:
        return start + min(max((moment - start) // UNIT * UNIT, timedelta(0)), REACH)

    return replace(
        record,
        signed_in_at=start,
        dated_at=time(record.dated_at),
        token_ends_at=time(record.token_ends_at),
        ends_at=time(record.ends_at),
        first_seen_at=None if record.first_seen_at is None else time(record.first_seen_at),
        last_seen_at=time(record.last_seen_at),
    )


@given(session_records())
def test_a_session_record_is_small_and_keeps_all_but_fractions_of_times(
    record: SessionRecord,
) -> None:
    raw = encode_session(record)
    assert len(raw) <= LONGEST
    assert decode_session(raw) == cut(record)


@given(session_records())
def test_a_session_record_that_was_read_is_written_as_the_same_bytes(record: SessionRecord) -> None:
    raw = encode_session(record)
    assert encode_session(decode_session(raw)) == raw


def test_the_longest_possible_session_is_not_shortened() -> None:
    record = session(
        1,
        ttl=MAX_SESSION_TTL,
        last_seen_at=NOW + MAX_SESSION_TTL,
        first_seen_at=NOW + MAX_SESSION_TTL,
    )
    assert decode_session(encode_session(record)) == record


def test_the_latest_first_seen_time_is_not_read_as_never() -> None:
    record = decode_session(encode_session(session(1, first_seen_at=NOW + 10_000 * DAY)))
    assert record.first_seen_at == NOW + REACH


@given(st.binary(max_size=200))
def test_bytes_that_are_no_session_record_are_unreadable(raw: bytes) -> None:
    assume(len(raw) != len(encode_session(session())) or raw[0] != encode_session(session())[0])
    with pytest.raises(UnreadableRecord):
        decode_session(raw)


def test_a_session_with_its_own_idle_time_has_another_format() -> None:
    plain, idle = session(), replace(session(), idle_timeout=STEPS[0])
    assert (encode_session(plain)[0], encode_session(idle)[0]) == (3, 4)
    with pytest.raises(UnreadableRecord):
        decode_session(sealed(encode_session(idle)[:-3] + b"\0"))


def test_a_session_with_stored_claims_is_marked() -> None:
    """Two bits of its first byte are the mark."""
    heads = {
        (stored, idle): encode_session(session(stored_claims=stored, idle_timeout=idle))[0]
        for idle in (None, STEPS[0])
        for stored in StoredClaims
    }
    assert list(heads.values()) == [0x03, 0x13, 0x23, 0x04, 0x14, 0x24]
    with pytest.raises(UnreadableRecord, match="claims that are nowhere"):
        decode_session(sealed(b"\x33" + encode_session(session())[1:-2]))


@given(session_records())
def test_a_session_record_of_an_earlier_version_is_read(record: SessionRecord) -> None:
    """Formats 1 and 2 have no CRC and no marks."""
    raw = encode_session(replace(record, stored_claims=StoredClaims.NONE))
    earlier = bytes([raw[0] - 2]) + raw[1:-2]
    assert len(earlier) == (59 if record.idle_timeout is None else 60)
    assert decode_session(earlier) == decode_session(raw)


def test_a_session_record_with_any_bit_changed_is_unreadable() -> None:
    for record in (session(), replace(session(), idle_timeout=STEPS[0])):
        raw = encode_session(record)
        for place in range(8 * len(raw)):
            changed = bytearray(raw)
            changed[place // 8] ^= 1 << place % 8
            with pytest.raises(UnreadableRecord):
                decode_session(bytes(changed))


def test_any_other_length_of_a_session_record_is_unreadable() -> None:
    """This holds with the right CRC, too. Only a record with one or two bytes more and the right
    CRC may come from a later version.
    """
    raw = encode_session(session())
    for length in range(120):
        if length != len(raw):
            with pytest.raises(UnreadableRecord):
                decode_session((raw * 3)[:length])
        if not 59 <= length <= 61:
            with pytest.raises(UnreadableRecord):
                decode_session(sealed((raw * 3)[:length]))


@pytest.mark.parametrize("sign_in_ms", [2**48 - 1, LAST_MS, LAST_MS + 1, 230_000_000_000_000])
def test_a_session_with_an_impossible_time_is_unreadable(sign_in_ms: int) -> None:
    raw = bytearray(encode_session(session()))
    raw[SIGN_IN : SIGN_IN + 6] = sign_in_ms.to_bytes(6)
    with pytest.raises(UnreadableRecord, match="never was"):
        decode_session(sealed(raw[:-2]))


@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_only_first_seen_may_be_empty(place: int) -> None:
    raw = bytearray(encode_session(session(first_seen_at=NOW)))
    offset = SIGN_IN + 6 + 4 * place
    raw[offset : offset + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(UnreadableRecord, match="must have"):
        decode_session(sealed(raw[:-2]))


def test_a_session_with_the_latest_readable_time_has_an_end() -> None:
    raw = bytearray(encode_session(session()))
    raw[SIGN_IN : SIGN_IN + 6] = to_ms(datetime(9000, 1, 1, tzinfo=UTC)).to_bytes(6)
    raw[SIGN_IN + 6 : -2] = b"\xff\xff\xff\xfe" * 5
    limits = SessionLimits(idle_timeout=MAX_SESSION_TTL, session_ttl=MAX_SESSION_TTL)
    assert decode_session(sealed(raw[:-2])).is_live(limits, NOW)


@pytest.mark.parametrize("name", ["first_seen_ms", "last_sign_in_ms", "last_seen_ms"])
@pytest.mark.parametrize("milliseconds", [-1, -(2**63), LAST_MS + 1, 2**63 - 1])
def test_a_device_with_an_impossible_time_is_unreadable(name: str, milliseconds: int) -> None:
    record = records_pb2.DeviceRecord.FromString(encode_device(device()))
    setattr(record, name, milliseconds)
    with pytest.raises(UnreadableRecord, match="never was"):
        decode_device(record.SerializeToString())


@given(device_records)
def test_a_device_record_is_read_back(record: DeviceRecord) -> None:
    raw = encode_device(record)
    assert decode_device(raw) == record
    assert encode_device(decode_device(raw)) == raw


@given(claims_records)
def test_a_claims_record_is_read_back(claims: SessionClaims) -> None:
    assert decode_claims(encode_claims(claims)) == claims


@given(issued_records)
def test_an_issued_record_is_read_back(record: IssuedRecord) -> None:
    assert decode_issued(encode_issued(record)) == record


@pytest.mark.parametrize("decode", [decode_device, decode_issued])
@pytest.mark.parametrize("raw", [b"", b"\xff", b"\x0a\x03abc", b"\x0a\xff", b"\x1a\x01a"], ids=repr)
def test_a_record_without_a_device_is_unreadable(
    decode: Callable[[bytes], object], raw: bytes
) -> None:
    with pytest.raises(UnreadableRecord):
        decode(raw)


@given(st.binary(max_size=60))
def test_random_bytes_are_read_or_unreadable_and_raise_nothing_else(raw: bytes) -> None:
    for decode in (decode_device, decode_issued, decode_claims):
        with suppress(UnreadableRecord):
            decode(raw)


def test_the_content_of_an_unreadable_record_is_not_shown() -> None:
    with pytest.raises(UnreadableRecord) as caught:
        decode_device(encode_device(device())[1:])
    assert "Phone" not in str(caught.value)


@pytest.mark.parametrize("kind", list(EventType)[1:], ids=lambda kind: kind.name)
def test_every_kind_of_event_has_its_number(kind: EventType) -> None:
    event = Event(kind, NOW, "ada", "shop")
    assert decode_event(encode_event(event)) == event
    record = records_pb2.EventRecord.FromString(encode_event(event))
    assert records_pb2.EventType.Name(record.type) == f"EVENT_TYPE_{kind.name}"
    assert record.type != records_pb2.EVENT_TYPE_UNSPECIFIED


@pytest.mark.parametrize("cause", ReplayCause)
@pytest.mark.parametrize("action", ReplayAction)
def test_every_cause_of_a_replay_has_its_number(cause: ReplayCause, action: ReplayAction) -> None:
    event = Event(
        EventType.SESSION_REPLAYED, NOW, "ada", "shop", replay_cause=cause, replay_action=action
    )
    assert decode_event(encode_event(event)) == event
    record = records_pb2.EventRecord.FromString(encode_event(event))
    assert records_pb2.ReplayCause.Name(record.replay_cause) == f"REPLAY_CAUSE_{cause.name}"
    assert record.replay_cause != records_pb2.REPLAY_CAUSE_UNSPECIFIED
    assert record.replay_action == action.value


def test_every_field_of_an_event_is_written() -> None:
    event = Event(
        type=EventType.DEVICE_SIGNED_IN,
        happened_at=NOW,
        user_id="ada",
        actor="shop",
        device_id=UUID(int=1),
        device_display_name="Phone",
        device_client=EndUserClient("192.0.2.8"),
        client=EndUserClient("192.0.2.7", "Mozilla/5.0", "Shop", "1.2"),
        session_id=b"s" * 16,
        reason="because",
        new_device=True,
        first_device=True,
        except_device_id=UUID(int=2),
        key_id="k1",
    )
    assert decode_event(encode_event(event)) == event
    record = records_pb2.EventRecord.FromString(encode_event(event))
    unset = {"replay_cause", "replay_action"}  # Shown above.
    assert {field.name for field, _ in record.ListFields()} == {
        f.name for f in record.DESCRIPTOR.fields
    } - unset
    assert (record.time_ms, record.user_id, record.actor, record.reason) == (
        to_ms(NOW),
        "ada",
        "shop",
        "because",
    )
    assert (record.device_id, record.except_device_id) == (UUID(int=1).bytes, UUID(int=2).bytes)
    assert (record.session_id, record.device_display_name) == (b"s" * 16, "Phone")
    assert record.client.app_version == "1.2"
    assert (record.device_client.ip_address, record.key_id) == ("192.0.2.8", "k1")


def test_the_known_fields_of_a_later_version_s_event_are_read() -> None:
    later = records_pb2.EventRecord(
        type=cast("records_pb2.EventType", 99), user_id="ada", replay_action="banish"
    )
    event = decode_event(later.SerializeToString())
    assert (event.type, event.user_id, event.replay_action) == (EventType.UNKNOWN, "ada", None)


@pytest.mark.parametrize(
    "raw", [b"\xff\xff", records_pb2.EventRecord(device_id=b"short").SerializeToString()]
)
def test_bytes_that_are_no_event_are_unreadable(raw: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        decode_event(raw)


def test_fields_that_an_event_lacks_stay_empty() -> None:
    record = records_pb2.EventRecord.FromString(
        encode_event(Event(EventType.ALL_REVOKED, NOW, "ada", "shop"))
    )
    assert {field.name for field, _ in record.ListFields()} == {
        "type",
        "time_ms",
        "user_id",
        "actor",
        "client",
    }


# --- memory ---------------------------------------------------------------------------------------


@pytest.fixture(params=["valkey", "redis"])
def real(request: pytest.FixtureRequest, backends: Callable[[str], Backend]) -> Backend:
    """A real server of each make."""
    return backends(request.param)


async def test_the_sessions_of_a_user_stay_compact(real: Backend, prefix: str) -> None:
    name = KeyNames(prefix).sessions("ada")
    async with real.admin() as client:
        for number in range(100):
            record = session(
                number,
                replaced=b"r" * 8,
                generation=2**32 - 1,
                holder=MAX_COPY,
                first_seen_at=NOW + 400 * DAY,
                idle_timeout=STEPS[-1],
            )
            await client.execute_command("HSET", name, key(number), encode_session(record))
        assert await client.execute_command("OBJECT", "ENCODING", name) == b"listpack"


async def test_a_session_takes_little_memory(real: Backend) -> None:
    name = KeyNames("sa").sessions("8d1c1b8e-2a47-4f0e-9f52-2f1f6f1f0b55")
    async with real.admin() as client:
        for number in range(3):
            await client.execute_command("HSET", name, key(number), encode_session(session(number)))
        total = int(await client.execute_command("MEMORY", "USAGE", name))
        await client.execute_command("DEL", name)
    print(f"{real.name}: {total} bytes for 3 sessions of a user, {total / 3:.0f} for each")
    assert total / 3 <= MOST_FOR_A_SESSION


def test_the_record_of_a_request_is_small() -> None:
    assert len(encode_issued(issued())) < 130
