"""What a renewal hands out, and what using a token proves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from session_authority.domain.session_limits import ReplayAlarm, SessionLimits
from session_authority.domain.sessions import SessionRecord, StoredClaims, Token
from session_authority.domain.verdicts import SessionStatus, Verdict, is_durable, judge


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal leads to.

    `record` is what the record becomes (None: stays). It must be committed before a token is handed
    out; where `hand_out` is false it only marks what was seen, and losing it is harmless.
    `reissue` hands out the presented token once more, with the claims that the store has.
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
    """The record after an active token of its session was presented: what that proves, and when it
    was. If `passive`, the session does not count as used.

    Equal to `record` if there is nothing new. Losing a mark is harmless.
    """
    holder, first_seen, last_seen = (
        record.holder,
        record.first_seen_at,
        record.last_seen_at if passive else _touched(record, limits, now),
    )
    if token.generation == record.generation:
        # A queued upload may carry a copy that its client has long replaced: where uploads are
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
    """Returns True if the token's copy of the record's generation is the one that its client uses.

    A copy is never handed out later than `GRACE` after its generation's date, so the token is old
    enough where the date is: unless the store fell back to an older date, with copies under way.
    """
    return now - record.dated_at >= limits.alarm_after and is_durable(token, limits, now)


def _touched(record: SessionRecord, limits: SessionLimits, now: datetime) -> datetime:
    """When it was last seen, as far as that is worth a write."""
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
    """What presenting a token for renewal leads to: the next generation, another copy of the
    current one, the same token with newer claims, or nothing new.

    The arguments are those of `judge` and `mark`, and the claims that the store has for the session
    (None: the token's are right).
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
    assert record is not None  # only a record makes a token ACTIVE
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
    """The renewal of a token that is too young for the next generation: requests with the token of
    the generation before may still be under way, and must not look like a replay.

    If its claims are old, it is made once more with the new ones. Nothing else of it changes, so
    which of the two a client has makes no difference to a verdict, and nothing is decided by it.
    """
    if claims is None:
        return Renewal(verdict, record=used)
    if token.claims == claims:
        return Renewal(verdict, record=_with_claims_in_tokens(used))
    return Renewal(verdict, record=used, reissue=now < token.expires_at)


def _with_claims_in_tokens(record: SessionRecord) -> SessionRecord:
    """The record when a token with its stored claims is in use, or is the only one of its
    generation.
    """
    if record.stored_claims is StoredClaims.NEWER:
        return replace(record, stored_claims=StoredClaims.IN_TOKENS)
    return record


def _rotate(
    record: SessionRecord, token: Token, limits: SessionLimits, now: datetime
) -> SessionRecord:
    """The next generation. The copy that asks for it is by its age the settled one: no other of its
    generation is good.

    Else two holders who never present what the other has not yet moved on from could share a
    session for ever.
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
    """The record when another copy of its generation, which is not yet seen, is handed out.

    Dated anew if it is older than GRACE: else the first copy that is presented could become the
    holder at once, and the other one, still on its way, would look like a thief's.
    """
    if now - record.dated_at <= limits.grace:
        return replace(record, last_seen_at=_touched(record, limits, now))
    return replace(
        record,
        dated_at=now,
        token_ends_at=min(now + limits.token_ttl, record.absolute_end(limits)),
        last_seen_at=now,
    )
