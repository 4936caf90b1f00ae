"""The count of live sessions among removed ones equals the count from reading each of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.moments import from_ms, to_ms
from session_authority.domain.session_limits import SessionLimits
from session_authority.store import codec
from session_authority.store.codec import UnreadableRecord, decode_session, encode_session, sealed
from session_authority.store.records import RemovedSessions
from session_authority.store.removed_sessions import count_live, readable, removed_sessions
from tests.store.samples import NOW, removal_of, session
from tests.store.test_codec import session_records

_SESSION_BYTES = 59
_MILLISECOND = timedelta(milliseconds=1)
limits = st.builds(
    SessionLimits,
    session_ttl=st.timedeltas(timedelta(hours=1), timedelta(days=400)),
    idle_timeout=st.timedeltas(timedelta(minutes=20), timedelta(days=60)),
)


@st.composite
def stored(draw: st.DrawFn) -> bytes:
    """A session of any version: intact, damaged, or with a right CRC and wrong fields."""
    raw = encode_session(draw(session_records()))
    match draw(st.sampled_from(["sound", "sound", "earlier", "later", "damaged", "wrong", "any"])):
        case "earlier":
            return bytes([(raw[0] & 0x0F) - 2]) + raw[1:-2]
        case "later":
            return sealed(bytes([raw[0] | 0x40]) + raw[1:-2] + draw(st.binary(max_size=2)))
        case "damaged":
            place = draw(st.integers(0, 8 * len(raw) - 1))
            return (int.from_bytes(raw) ^ 1 << place).to_bytes(len(raw))
        case "wrong":
            body, at = bytearray(raw[:-2]), draw(st.integers(0, _SESSION_BYTES - 4))
            body[at : at + 4] = b"\xff\xff\xff\xff"
            body[0] = draw(st.sampled_from([body[0], 0x33, 0x05, 0x00]))
            return sealed(body)
        case "any":
            return draw(st.binary(max_size=63))
    return raw


def counted_one_by_one(raws: Iterable[bytes], limits: SessionLimits, now: datetime) -> int:
    count = 0
    for raw in raws:
        try:
            count += decode_session(raw).is_live(limits, now)
        except UnreadableRecord:
            continue
    return count


@given(st.data(), st.lists(stored(), min_size=1, max_size=6), limits)
def test_the_count_of_live_sessions_equals_reading_each(
    data: st.DataObject, raws: list[bytes], limits: SessionLimits
) -> None:
    """A difference is most likely within a millisecond of the end of a session."""
    removed = RemovedSessions(tuple(raws))
    ends = [NOW, *(record.expires_at(limits) for record in readable(removed))]
    end = from_ms(to_ms(data.draw(st.sampled_from(ends))))
    for now in (end - _MILLISECOND, end, end + _MILLISECOND):
        assert count_live(removed, limits, now) == counted_one_by_one(raws, limits, now)


@pytest.mark.parametrize("fraction", [timedelta(0), timedelta(microseconds=1)])
@pytest.mark.parametrize(
    ("ends_after", "session_ttl", "idle_timeout"),
    [(2, 3, 4), (3, 2, 4), (4, 3, 1)],
    ids=["its absolute end", "the longest time", "its idle end"],
)
def test_each_end_counts_to_the_millisecond(
    ends_after: int, session_ttl: int, idle_timeout: int, fraction: timedelta
) -> None:
    hour = timedelta(hours=1)
    limits = SessionLimits(
        session_ttl=session_ttl * hour + fraction, idle_timeout=idle_timeout * hour + fraction
    )
    record = session(ends_at=NOW + ends_after * hour, last_seen_at=NOW + hour)
    end = from_ms(to_ms(record.expires_at(limits)))
    raws = removal_of(record).raws
    counted = []
    for now in (end - _MILLISECOND, end, end + _MILLISECOND):
        counted.append(count_live(RemovedSessions(raws), limits, now))
        assert counted[-1] == counted_one_by_one(raws, limits, now)
    assert (counted[0], counted[-1]) == (1, 0)


@pytest.mark.parametrize("offset", [39, 43, 47, 51, 55])
def test_a_session_without_a_time_that_it_must_have_is_not_counted(offset: int) -> None:
    body = bytearray(encode_session(session(first_seen_at=NOW))[:-2])
    body[offset : offset + 4] = b"\xff\xff\xff\xff"
    counted = count_live(RemovedSessions((sealed(body),)), SessionLimits(), NOW)
    assert counted == counted_one_by_one([sealed(body)], SessionLimits(), NOW)


def test_sessions_of_the_usual_form_are_counted_without_being_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sign-out of thousands of devices counts them while its caller waits."""
    removed = removal_of(*map(session, range(1, 1001)))

    def read(_: bytes) -> None:
        raise AssertionError("a session was read")

    monkeypatch.setattr(codec, "decode_session", read)
    assert count_live(removed, SessionLimits(), NOW) == 1000


def test_a_value_that_is_too_long_for_a_session_is_not_kept() -> None:
    """Other values in the hash of a user would be remembered for as long as sessions are."""
    raw = encode_session(session())
    assert removed_sessions([raw, b"x" * 64, b""]) == RemovedSessions((raw, b""))


def test_many_of_one_length_arrive_as_one_string() -> None:
    """A script answers this way for a user with many devices, as this form is far cheaper to
    read.
    """
    raws = removal_of(*map(session, range(1, 20))).raws
    assert removed_sessions([len(raws[0]), b"".join(raws)]) == RemovedSessions(raws)
