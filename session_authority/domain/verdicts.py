"""The decision on a presented token: the verdict table, row by row.

A client proves that a reply arrived by presenting what was in it; until then an older token may be
all it has. So a token is superseded not when its successor is made but when its successor is
*seen*. Order comes from generations and never from clocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from session_authority.domain.session_limits import MAX_LOST_GENERATIONS, SessionLimits
from session_authority.domain.sessions import REPLACED_ID_BYTES, SessionRecord, Token


class SessionStatus(Enum):
    """What a presented token is worth; the names are those of the public contract."""

    ACTIVE = "active"
    TOKEN_MISSING = "token_missing"
    TOKEN_INVALID = "token_invalid"
    TOKEN_EXPIRED = "token_expired"
    NO_SESSION = "no_session"
    SESSION_EXPIRED = "session_expired"
    SUPERSEDED = "superseded"
    REPLAYED = "replayed"
    SESSION_ENDED = "session_ended"
    WRONG_DEVICE = "wrong_device"


class ReplayCause(Enum):
    """Why a token counts as replayed."""

    SUPERSEDED_TOKEN = "superseded_token"
    SECOND_COPY = "second_copy"
    LEFT_DEVICE = "left_device"
    REPLACED_SESSION = "replaced_session"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a presented token is worth.

    `forwarded` is set where the store lost writes in a failover: the record that the token proves,
    to be committed in place of the one that was read.
    """

    status: SessionStatus
    cause: ReplayCause | None = None
    renew_recommended: bool = False
    forwarded: SessionRecord | None = None


def judge(
    record: SessionRecord | None,
    token: Token,
    presented_key: bytes,
    limits: SessionLimits,
    now: datetime,
) -> Verdict:
    """The verdict table, from the row "none" on, for a verified token that was presented with a
    device key.

    `record` is that of the token's user and the *token's* device key. Whether the token itself has
    expired is asked before: a renewal does not mind.
    """
    if record is None:
        return Verdict(SessionStatus.NO_SESSION)
    if not record.is_live(limits, now):
        return Verdict(SessionStatus.SESSION_EXPIRED)
    verdict = _judge_on_its_device(record, token, limits, now)
    if presented_key == token.device_key:
        return verdict
    if verdict.status in (SessionStatus.ACTIVE, SessionStatus.REPLAYED):
        return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.LEFT_DEVICE)
    return Verdict(SessionStatus.WRONG_DEVICE)


def _judge_on_its_device(
    record: SessionRecord, token: Token, limits: SessionLimits, now: datetime
) -> Verdict:
    if token.session_id == record.session_id:
        return _judge_generation(record, token, limits, now)
    if record.replaced is not None and token.session_id[:REPLACED_ID_BYTES] == record.replaced:
        # A token made shortly before the new sign-in may have reached its client after it, and
        # stayed there.
        crossed = token.issued_at > record.signed_in_at - limits.alarm_after
        if (
            crossed
            or record.first_seen_at is None
            or now - record.first_seen_at < limits.alarm_after
        ):
            return Verdict(SessionStatus.SUPERSEDED)
        return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.REPLACED_SESSION)
    return Verdict(SessionStatus.SESSION_ENDED)


def _judge_generation(
    record: SessionRecord, token: Token, limits: SessionLimits, now: datetime
) -> Verdict:
    ahead = token.generation - record.generation
    if ahead == 0:
        if record.holder is not None and record.holder != token.copy:
            return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.SECOND_COPY)
        half_life = (token.expires_at - token.issued_at) / 2
        return Verdict(SessionStatus.ACTIVE, renew_recommended=token.expires_at - now < half_life)
    if ahead > 0:
        if ahead > MAX_LOST_GENERATIONS or token.issued_at <= record.dated_at:
            return Verdict(SessionStatus.NO_SESSION)
        forwarded = replace(
            record,
            generation=token.generation,
            holder=None,
            predecessor=None,
            dated_at=token.issued_at,
            token_ends_at=token.expires_at,
            first_seen_at=now,
            last_seen_at=max(now, record.last_seen_at),
        )
        half_life = (token.expires_at - token.issued_at) / 2
        return Verdict(
            SessionStatus.ACTIVE,
            renew_recommended=token.expires_at - now < half_life,
            forwarded=forwarded,
        )
    if ahead == -1:
        if record.predecessor is not None and record.predecessor != token.copy:
            return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.SECOND_COPY)
        if record.first_seen_at is None or now - record.first_seen_at < limits.grace:
            return Verdict(SessionStatus.ACTIVE, renew_recommended=True)
        if now - record.first_seen_at < limits.alarm_after:
            return Verdict(SessionStatus.SUPERSEDED)
    return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.SUPERSEDED_TOKEN)
