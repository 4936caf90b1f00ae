"""Reads the sessions that a commit or a revocation removed.

Signing out thousands of devices must cost about as much as signing out one device. So sessions in
the usual form (see `codec.plain_lifetimes`) are counted, but not decoded into records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from session_authority.domain.moments import MILLISECOND, to_ms
from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.sessions import SessionRecord
from session_authority.store import codec
from session_authority.store.records import RemovedSessions


def removed_sessions(reply: Sequence[Any]) -> RemovedSessions:
    """Returns the sessions that a script removed, from the script's reply. The reply is a list of
    the sessions, or it is the length of one session and one string with all sessions. In a list, a
    value that is too long for a session is left out.
    """
    match reply:
        case [int(size), bytes(joined)]:
            raws = [joined[start : start + size] for start in range(0, len(joined), max(size, 1))]
        case _:
            raws = [raw for raw in reply if len(raw) <= codec.MAX_SESSION_BYTES]
    return RemovedSessions(tuple(raws))


def readable(removed: RemovedSessions) -> Iterator[SessionRecord]:
    """Yields the removed sessions that can be read. Unreadable sessions are left out."""
    for raw in removed.raws:
        try:
            yield codec.decode_session(raw)
        except codec.UnreadableRecord:
            continue


def count_live(removed: RemovedSessions, limits: SessionLimits, now: datetime) -> int:
    """Returns how many of the removed sessions could be read and were live at `now`, see
    `SessionRecord.is_live`. For sessions in the usual form, `now` is truncated to whole ms.
    """
    lifetimes, others = codec.plain_lifetimes(removed.raws)
    now_ms = to_ms(now)
    # The limits are rounded up to whole ms. Ages are whole ms, and a whole number is less than a
    # fraction exactly if it is less than the next whole number.
    session_ttl = -(-limits.session_ttl // MILLISECOND)
    idle_timeout = -(-limits.idle_timeout // MILLISECOND)
    live = 0
    for signed_in_ms, end_ms, last_seen_ms in lifetimes:
        age = now_ms - signed_in_ms
        if age < end_ms and age < session_ttl and age - last_seen_ms < idle_timeout:
            live += 1
    unusual = readable(RemovedSessions(tuple(others)))
    return live + sum(record.is_live(limits, now) for record in unusual)
