"""Decides what a presented token is worth, by the table of verdicts in docs/design.md.

A client can lose a new token, and keep only the older token. For example, the client's process may
die before the new token is on the disk. A client that presents a new token at the age of
`DURABLE_AFTER` or more has kept the new token: the token is *seen*. So the older token is
superseded when the new token is seen, and not when the new token is made.

Generations, and not clocks, decide which of two tokens is newer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from session_authority.domain.session_limits import (
    MAX_LOST_GENERATIONS,
    ReplayAlarm,
    SessionLimits,
)
from session_authority.domain.sessions import (
    REPLACED_ID_BYTES,
    SessionRecord,
    StoredClaims,
    Token,
)


class SessionStatus(Enum):
    """The status of a presented token, or of a session that is named without a token. The public
    contract uses the same names for the statuses.
    """

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
    """The reasons for which a token can count as a replay."""

    SUPERSEDED_TOKEN = "superseded_token"
    SECOND_COPY = "second_copy"
    LEFT_DEVICE = "left_device"
    REPLACED_SESSION = "replaced_session"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on a presented token, as `judge` makes it.

    If `status` is REPLAYED, `cause` is the reason. If `status` is SUPERSEDED, `cause` tells what a
    renewal with the same token would get: REPLAYED for this cause, or SUPERSEDED if `cause` is
    None. With any other status, `cause` is None.

    `forwarded` is None unless the token proves that the store lost writes in a failover.
    `forwarded` is a record with the generation of the token, and must be committed in place of the
    record that was read.
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
    *,
    assigned: bool = False,
    renews: bool = False,
) -> Verdict:
    """Judges a verified token and the device key that came with the token, by the table of verdicts
    from its row "record: none" on.

    `judge` does not check whether the token has expired, because a renewal may use an expired
    token. A validation checks this before it calls `judge`.

    Args:
        record: The session record of the token's user on the *token's* device. None if the store
            has no such record.
        token: The verified token.
        presented_key: The key of the device ID that came with the token.
        limits: The intervals, and `replay_alarm`.
        now: The present time.
        assigned: True if a validation assigned the presented device ID to an earlier request
            without a device ID (see `assigned_ids`).
        renews: True if the token is presented for renewal, and not for validation.
    """
    if record is None:
        return Verdict(SessionStatus.NO_SESSION)
    if not record.is_live(limits, now):
        return Verdict(SessionStatus.SESSION_EXPIRED)
    verdict = _judge_on_its_device(record, token, limits, now)
    if presented_key != token.device_key:
        return _judge_elsewhere(verdict, assigned)
    if (
        verdict.status is SessionStatus.REPLAYED
        and limits.replay_alarm is ReplayAlarm.RENEWED
        and not renews
    ):
        # Some clients queue uploads, and send an upload later with the token that was current when
        # the upload was queued. For these clients the operator chooses RENEWED: an old token in a
        # validation is then no sign of theft. A thief is still found: each client that stays in use
        # must renew, and a renewal with an old token raises the alarm.
        return Verdict(SessionStatus.SUPERSEDED, cause=verdict.cause, renew_recommended=True)
    return verdict


def _judge_elsewhere(verdict: Verdict, assigned: bool) -> Verdict:
    """Returns the verdict on a token that came with the device ID of another device. `verdict` is
    the verdict that the token would get with the ID of its own device.
    """
    is_live = verdict.status in (SessionStatus.ACTIVE, SessionStatus.REPLAYED)
    # An alarm would do more harm than good if the token's session has ended or was replaced, if the
    # token was superseded a short time ago, or if a validation assigned the device ID. Without an
    # alarm the request is still denied, so an attacker gains nothing.
    if is_live and not assigned and verdict.cause is not ReplayCause.REPLACED_SESSION:
        return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.LEFT_DEVICE)
    return Verdict(SessionStatus.WRONG_DEVICE)


def _judge_on_its_device(
    record: SessionRecord, token: Token, limits: SessionLimits, now: datetime
) -> Verdict:
    if token.session_id == record.session_id:
        return _judge_generation(record, token, limits, now)
    if record.replaced is not None and token.session_id[:REPLACED_ID_BYTES] == record.replaced:
        # A token of the replaced session may have been made shortly before the new sign-in. If a
        # token of the replaced session arrives at its client after the token of the new session,
        # the client may keep the older token.
        crossed = token.issued_at > record.signed_in_at - limits.alarm_after
        if (
            crossed
            or record.first_seen_at is None
            or now - record.first_seen_at < limits.alarm_after
        ):
            return Verdict(SessionStatus.SUPERSEDED)
        return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.REPLACED_SESSION)
    return Verdict(SessionStatus.SESSION_ENDED)


def is_durable(token: Token, limits: SessionLimits, now: datetime) -> bool:
    """Returns True if a client that presents the token now proves that it has kept the token.

    The age of the token counts, and not the age of the record's date: a renewal by another client
    can change the record's date.
    """
    return now - token.issued_at >= limits.durable_after


def _should_renew(record: SessionRecord, token: Token, now: datetime) -> bool:
    """Returns True if the client of a token of the newest generation should renew the token. A
    token should be renewed if it is past half its life, or may lack the claims that the store has.
    """
    half_life = (token.expires_at - token.issued_at) / 2
    return token.expires_at - now < half_life or record.stored_claims is StoredClaims.NEWER


def _judge_generation(
    record: SessionRecord, token: Token, limits: SessionLimits, now: datetime
) -> Verdict:
    ahead = token.generation - record.generation
    if ahead == 0:
        if record.holder is not None and record.holder != token.copy:
            return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.SECOND_COPY)
        return Verdict(SessionStatus.ACTIVE, renew_recommended=_should_renew(record, token, now))
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
            first_seen_at=now if is_durable(token, limits, now) else None,
            last_seen_at=max(now, record.last_seen_at),
        )
        return Verdict(
            SessionStatus.ACTIVE,
            renew_recommended=_should_renew(record, token, now),
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


def state_of(
    record: SessionRecord | None, session_id: bytes, limits: SessionLimits, now: datetime
) -> SessionStatus:
    """Returns the status of a session that is named without a token: ACTIVE, NO_SESSION,
    SESSION_EXPIRED or SESSION_ENDED. `record` is the session record of the same user and device.

    A later sign-in on the device ends the session. The status is SESSION_ENDED as long as the store
    has the record of a later session on the device, even if the later session has expired.
    """
    if record is None:
        return SessionStatus.NO_SESSION
    if record.session_id != session_id:
        return SessionStatus.SESSION_ENDED
    live = record.is_live(limits, now)
    return SessionStatus.ACTIVE if live else SessionStatus.SESSION_EXPIRED
