"""Decides which token a renewal hands out, and what the use of a token proves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from session_authority.domain.session_limits import ReplayAlarm, SessionLimits
from session_authority.domain.sessions import SessionRecord, StoredClaims, Token
from session_authority.domain.verdicts import SessionStatus, Verdict, is_durable, judge


@dataclass(frozen=True, slots=True)
class Renewal:
    """The decision on a renewal.

    `record` is the new record of the session. None leaves the stored record unchanged. If
    `hand_out` is true, the record must be committed before a token is handed out. Otherwise the
    record only has a new mark, and losing the mark is harmless. If `reissue` is true, the presented
    token is handed out once more, with the claims from the store.
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
    """The session's record, with the marks that the use of an active token proves. If `passive`,
    the session does not count as used.

    The result equals `record` if the use proves nothing new. Losing a mark is harmless.
    """
    holder, first_seen, last_seen = (
        record.holder,
        record.first_seen_at,
        record.last_seen_at if passive else _touched(record, limits, now),
    )
    if token.generation == record.generation:
        # A queued upload may carry a copy that its client replaced long ago. So where uploads are
        # forgiven, only a renewal settles which copy is in use.
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
    """Returns True if the token is the copy of the record's generation that the client uses.

    No copy is handed out later than `GRACE` after the date of its generation. So if that date is
    old enough, the token is old enough, too. The only exception is a store that returned to an
    older date after copies were handed out.
    """
    return now - record.dated_at >= limits.alarm_after and is_durable(token, limits, now)


def _touched(record: SessionRecord, limits: SessionLimits, now: datetime) -> datetime:
    """The new last-seen time. It is the old time if the difference is too small to be written."""
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
    """Decides a renewal. The client gets the next generation, another copy of the current
    generation, the same token with newer claims, or nothing new.

    The arguments are those of `judge` and `mark`. In addition, `claims` are the claims that the
    store has for the session (None if the token's claims are current).
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
    """Renews a token that is too young for the next generation. Requests with a token of the
    previous generation may still be under way, and must not look like a replay.

    If the token's claims are old, the token is made once more with the new claims. Nothing else in
    the token changes, so both tokens get the same verdicts.
    """
    if claims is None:
        return Renewal(verdict, record=used)
    if token.claims == claims:
        return Renewal(verdict, record=_with_claims_in_tokens(used))
    return Renewal(verdict, record=used, reissue=now < token.expires_at)


def _with_claims_in_tokens(record: SessionRecord) -> SessionRecord:
    """The record after a token with the stored claims is in use, or after the first token of a new
    generation was made.
    """
    if record.stored_claims is StoredClaims.NEWER:
        return replace(record, stored_claims=StoredClaims.IN_TOKENS)
    return record


def _rotate(
    record: SessionRecord, token: Token, limits: SessionLimits, now: datetime
) -> SessionRecord:
    """The record with the next generation. The copy that renews is old enough to be the settled
    copy, so no other copy of its generation stays valid.

    Otherwise two holders could share a session for ever, if each holder renews before the other one
    presents its token.
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
    """The record after another copy of its generation was handed out. No copy of this generation
    has been seen yet.

    The generation gets a new date if its date is older than `GRACE`. Otherwise the first copy that
    is presented could become the holder at once. Then the other copy, still under way, would look
    like a thief's token.
    """
    if now - record.dated_at <= limits.grace:
        return replace(record, last_seen_at=_touched(record, limits, now))
    return replace(
        record,
        dated_at=now,
        token_ends_at=min(now + limits.token_ttl, record.absolute_end(limits)),
        last_seen_at=now,
    )
