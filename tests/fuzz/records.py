"""Records that are read from Redis. A record of a later version, or a damaged one, is unreadable,
and does no other harm.

The first byte says which record follows. A session that is read is written as the same bytes,
unless its format is one of an earlier version. A protobuf record may hold fields that this version
does not know; the known fields stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from session_authority.domain.events import Event, EventType
from session_authority.domain.idle_timeouts import STEPS
from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.sessions import StoredClaims
from session_authority.store import codec
from session_authority.store.codec import UnreadableRecord
from tests.fuzz.target import Target
from tests.store.samples import NOW, claims, device, event, issued, session

_POLICY = SessionLimits()
# Formats of earlier versions.
_WITHOUT_CRC = (1, 2)


def check_session(raw: bytes, decode: Callable[[bytes], Any] = codec.decode_session) -> None:
    """A session, which has the service's own format and not protobuf. A wrong CRC is corrected:
    otherwise almost no input would be read.
    """
    try:
        record = decode(raw)
    except UnreadableRecord:
        raw = codec.sealed(raw[:-2])
        record = decode(raw)
    written = codec.encode_session(record)
    assert written == raw or (raw[0] in _WITHOUT_CRC and decode(written) == record), (
        "not the only spelling"
    )
    record.is_live(_POLICY, NOW)


def check_device(raw: bytes) -> None:
    """A device."""
    record = codec.decode_device(raw)
    assert codec.decode_device(codec.encode_device(record)) == record


def check_issued(raw: bytes) -> None:
    """The stored result of a sign-in request."""
    record = codec.decode_issued(raw)
    assert codec.decode_issued(codec.encode_issued(record)) == record


def check_event(raw: bytes) -> None:
    """An event. An event of an unknown type is read, and never written."""
    record: Event = codec.decode_event(raw)
    if record.type is not EventType.UNKNOWN:
        assert codec.decode_event(codec.encode_event(record)) == record


def check_claims(raw: bytes) -> None:
    """The claims of a session."""
    record = codec.decode_claims(raw)
    assert codec.decode_claims(codec.encode_claims(record)) == record


CHECKS: Sequence[Callable[[bytes], None]] = (
    check_session,
    check_device,
    check_issued,
    check_event,
    check_claims,
)


def check(data: bytes) -> None:
    """Decodes a record of the kind that the first byte names."""
    if data:
        try:
            CHECKS[data[0] % len(CHECKS)](data[1:])
        except UnreadableRecord as error:
            assert len(str(error)) < 80, "it quotes what it could not read"


TARGET = Target(
    check,
    seeds=[
        b"\0"
        + codec.encode_session(
            session(replaced=b"r" * 8, holder=7, predecessor=6, first_seen_at=NOW, generation=9)
        ),
        *(
            b"\0" + codec.encode_session(session(stored_claims=stored, idle_timeout=idle))
            for stored in StoredClaims
            for idle in (None, STEPS[7])
        ),
        b"\1" + codec.encode_device(device()),
        b"\2" + codec.encode_issued(issued()),
        *(
            b"\3" + codec.encode_event(event("ada", kind=kind))
            for kind in EventType
            if kind is not EventType.UNKNOWN
        ),
        b"\4" + codec.encode_claims(claims(auth_methods=("pwd", "otp"))),
    ],
    words=[
        b"\xff" * 4,
        b"\xff\xff\xff\xfe",
        b"\xff" * 9 + b"\1",
        b"revoke_all",
        b"revoke_device",
        b"deny",
        b"\0" * 16,
    ],
)
