"""Decides which token a renewal hands out, and which marks the use of a token adds to the record of
the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from session_authority.domain.session_limits import ReplayAlarm, SessionLimits
from session_authority.domain.sessions import SessionRecord, StoredClaims, Token
from session_authority.domain.verdicts import SessionStatus, Verdict, is_durable, judge


@dataclass(frozen=True, slots=True)
class Renewal:
    """The decision on a renewal, as `renew` makes it.

    If the token is denied, `record` is None, and the stored record stays unchanged. If the token is
    active, `record` is the record of the session after the renewal, which may equal the stored
    record.

    If `hand_out` is true, a token of the generation in `record` is handed out. `record` must be
    committed before the answer if `hand_out` is true or if the verdict has a `forwarded` record. If
    `hand_out` is false and the verdict has no `forwarded` record, `record` differs from the stored
    record only in marks and in `stored_claims`, and losing this difference is harmless.

    If `reissue` is true, the presented token is signed once more with the claims from the store,
    and is handed out.
    """

    verdict: Verdict
    record: SessionRecord | None = None
    hand_out: bool = False
    reissue: bool = False


def mark(
    record: SessionRecord,
    token: Token,
    limits: SessionLimits,
    now: datetime,
    *,
    passive: bool = False,
) -> SessionRecord:
    """Returns the record of a session with the marks that the use of a token proves. Losing a mark
    is harmless.

    Returns `record` itself if there is no new mark.

    Args:
        record: The record of the session.
        token: The presented token, whose verdict must be ACTIVE.
        limits: The limits of sessions.
        now: The present time.
        passive: True if the session does not count as used, so that its last-seen time stays the
            same.
    """
    holder, first_seen, last_seen = (
        record.holder,
        record.first_seen_at,
        record.last_seen_at if passive else _touched(record, limits, now),
    )
    if token.generation == record.generation:
        # An upload that was queued for a long time may carry a copy that its client has replaced.
        # With REPLAY_ALARM set to `renewed`, such an upload must not make its copy the holder. So
        # with `renewed`, only a renewal decides which copy is in use.
        settles = limits.replay_alarm is ReplayAlarm.PRESENTED
        if settles and holder is None and _is_settled(record, token, limits, now):
            holder = token.copy
        if first_seen is None and is_durable(token, limits, now):
            first_seen = now
    if (
        holder == record.holder
        and first_seen is record.first_seen_at
        and last_seen is record.last_seen_at
    ):
        return record
    return replace(record, holder=holder, first_seen_at=first_seen, last_seen_at=last_seen)


def _is_settled(record: SessionRecord, token: Token, limits: SessionLimits, now: datetime) -> bool:
    """Returns True if a use of the token proves that the client keeps this token, and no other copy
    of the record's generation.

    A client that presents a copy at the age of `DURABLE_AFTER` or more has kept the copy. No copy
    is handed out later than `GRACE` after the date of its generation. So if the date is at least
    `ALARM_AFTER` old, each copy of the generation is at least `DURABLE_AFTER` old. The age of the
    token is checked, too, because a failover may bring back a record with an older date.
    """
    return now - record.dated_at >= limits.alarm_after and is_durable(token, limits, now)


def _touched(record: SessionRecord, limits: SessionLimits, now: datetime) -> datetime:
    """Returns the last-seen time of a session that is used now. The time in the record is replaced
    only if it is at least `touch_interval` old, so that not every use causes a write.
    """
    return now if now - record.last_seen_at >= limits.touch_interval else record.last_seen_at


def renew(
    record: SessionRecord | None,
    token: Token,
    presented_key: bytes,
    limits: SessionLimits,
    now: datetime,
    *,
    assigned: bool = False,
    passive: bool = False,
    claims: Mapping[str, str] | None = None,
) -> Renewal:
    """Decides a renewal. The client gets a token of the next generation, another copy of the
    current generation, the same token with newer claims, or no token.

    Args:
        record: The session record of the token's user on the *token's* device. None if the store
            has no such record.
        token: The presented token, which may have expired.
        presented_key: The key of the device ID that came with the token.
        limits: The limits of sessions.
        now: The present time.
        assigned: True if a validation assigned the presented device ID, as for `judge`.
        passive: True if the session does not count as used, so that its last-seen time stays the
            same. But if the verdict has a `forwarded` record, the last-seen time is the time in
            that record, which is usually `now`.
        claims: The claims that the store has for the session. None if the store has no claims, so
            that the token's own claims are current.
    """
    renewal = _renew(record, token, presented_key, limits, now, assigned=assigned, claims=claims)
    if not passive or renewal.record is None:
        return renewal
    before = renewal.verdict.forwarded or record
    assert before is not None
    return replace(renewal, record=replace(renewal.record, last_seen_at=before.last_seen_at))


def _renew(
    record: SessionRecord | None,
    token: Token,
    presented_key: bytes,
    limits: SessionLimits,
    now: datetime,
    *,
    assigned: bool,
    claims: Mapping[str, str] | None,
) -> Renewal:
    verdict = judge(record, token, presented_key, limits, now, assigned=assigned, renews=True)
    if verdict.status is not SessionStatus.ACTIVE:
        return Renewal(verdict)
    assert record is not None  # a token is ACTIVE only if there is a record
    current = verdict.forwarded or record
    if token.generation == current.generation:
        if _is_settled(current, token, limits, now):
            return Renewal(verdict, record=_rotate(current, token, limits, now), hand_out=True)
        return _keep(verdict, mark(current, token, limits, now), token, claims, now)
    if current.first_seen_at is None:
        return Renewal(verdict, record=copy_again(current, limits, now), hand_out=True)
    return Renewal(verdict, record=mark(current, token, limits, now))


def _keep(
    verdict: Verdict,
    used: SessionRecord,
    token: Token,
    claims: Mapping[str, str] | None,
    now: datetime,
) -> Renewal:
    """Decides a renewal for which it is too early to begin the next generation. Requests with a
    token of the previous generation may still be under way. If the next generation began now, a
    token of the previous generation would look like a replay.

    If the store has other claims than the token, and the token has not expired, the token is signed
    once more with the claims from the store. Nothing else in the token changes, so the old and the
    new token get the same verdicts.
    """
    if claims is None:
        return Renewal(verdict, record=used)
    if token.claims == claims:
        return Renewal(verdict, record=_with_claims_in_tokens(used))
    return Renewal(verdict, record=used, reissue=now < token.expires_at)


def _with_claims_in_tokens(record: SessionRecord) -> SessionRecord:
    """Returns the record with a note that tokens have the stored claims: NEWER becomes IN_TOKENS.
    Call this function when a token with the stored claims was presented. Also call this function
    when a new generation begins, because the tokens of a new generation get the stored claims.
    """
    if record.stored_claims is StoredClaims.NEWER:
        return replace(record, stored_claims=StoredClaims.IN_TOKENS)
    return record


def _rotate(
    record: SessionRecord, token: Token, limits: SessionLimits, now: datetime
) -> SessionRecord:
    """Returns the record with the next generation. The presented copy becomes the predecessor, so
    no other copy of its generation stays valid.

    If other copies stayed valid, two clients with different copies could share a session for ever:
    each client would renew before the other client presents its token.
    """
    return replace(
        _with_claims_in_tokens(record),
        generation=record.generation + 1,
        holder=None,
        predecessor=token.copy,
        dated_at=now,
        token_ends_at=min(now + limits.token_ttl, record.absolute_end(limits)),
        first_seen_at=None,
        last_seen_at=now,
    )


def copy_again(record: SessionRecord, limits: SessionLimits, now: datetime) -> SessionRecord:
    """Returns the record to commit before another copy of its current generation is handed out.
    Call this function only if no copy of the current generation has been seen yet.

    The generation gets a new date if its date is older than `GRACE`. If the generation kept the old
    date, the first copy that is presented could become the holder at once. Another copy might still
    be under way to its client, and would then look like a thief's token.
    """
    if now - record.dated_at <= limits.grace:
        return replace(record, last_seen_at=_touched(record, limits, now))
    return replace(
        record,
        dated_at=now,
        token_ends_at=min(now + limits.token_ttl, record.absolute_end(limits)),
        last_seen_at=now,
    )
