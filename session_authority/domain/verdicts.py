"""Decides on a presented token, by the table of verdicts in docs/design.md.

A client proves that it keeps a token by presenting it at the age of `DURABLE_AFTER` or more. Before
that age, the token may be lost with the client's process, and the client may have only an older
token. So a token is not superseded when its successor is made, but when its successor is *seen*.
The order of tokens comes from their generations, and never from clocks.
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
    """The statuses of a presented token, under the names of the public contract."""

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
    """The decision on a presented token.

    `cause` says why the token is REPLAYED. If the status is SUPERSEDED, a `cause` says why a
    renewal with the same token would be REPLAYED, and None means that it would be SUPERSEDED, too.
    `forwarded` is set if the store lost writes in a failover. It is the record that the token
    proves, and must be committed in place of the record that was read.
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
    """Applies the table of verdicts, from its row "record: none" on, to a verified token and the
    device key that came with the token.

    The end of the token itself is no row here. A validation checks it before it calls `judge`, and
    a renewal accepts an expired token.

    Args:
        record: The record of the token's user and the *token's* device key.
        token: The token.
        presented_key: The key of the device ID that came with the token.
        limits: The intervals, and `replay_alarm`.
        now: The time.
        assigned: A validation assigned the presented device ID to an earlier request without a
            device ID (see `assigned_ids`).
        renews: The token is presented for renewal.
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
        # A queued upload carries the token that its client had when the upload was queued. So with
        # this setting an old token alone is no sign of theft. But each client that stays in use
        # must renew, and a renewal with an old token raises the alarm.
        return Verdict(SessionStatus.SUPERSEDED, cause=verdict.cause, renew_recommended=True)
    return verdict


def _judge_elsewhere(verdict: Verdict, assigned: bool) -> Verdict:
    """Returns the verdict on a token that another device presented. `verdict` is the verdict that
    the token would get on its own device.
    """
    is_live = verdict.status in (SessionStatus.ACTIVE, SessionStatus.REPLAYED)
    # An alarm would do more harm than good in these cases: the token's session is over on its own
    # device, the token was superseded a short time ago, or a validation assigned the device ID. In
    # each case the request is denied, so an attacker gains nothing.
    if is_live and not assigned and verdict.cause is not ReplayCause.REPLACED_SESSION:
        return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.LEFT_DEVICE)
    return Verdict(SessionStatus.WRONG_DEVICE)


def _judge_on_its_device(
    record: SessionRecord, token: Token, limits: SessionLimits, now: datetime
) -> Verdict:
    if token.session_id == record.session_id:
        return _judge_generation(record, token, limits, now)
    if record.replaced is not None and token.session_id[:REPLACED_ID_BYTES] == record.replaced:
        # A token that was made shortly before the new sign-in may have reached its client after the
        # sign-in, and the client may have kept it.
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
    """Returns True if presenting the token now proves that its client keeps it.

    The age of the token counts. The record's date does not count, as another client can change that
    date.
    """
    return now - token.issued_at >= limits.durable_after


def _should_renew(record: SessionRecord, token: Token, now: datetime) -> bool:
    """Returns True if a token of the newest generation is past half its life, or may lack the
    session's claims.
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
    SESSION_EXPIRED or SESSION_ENDED. `record` is the record of the session's user and device.

    A later sign-in on the device ends the session. The status stays SESSION_ENDED even if the later
    session has expired, as long as the store has the record of the later session.
    """
    if record is None:
        return SessionStatus.NO_SESSION
    if record.session_id != session_id:
        return SessionStatus.SESSION_ENDED
    live = record.is_live(limits, now)
    return SessionStatus.ACTIVE if live else SessionStatus.SESSION_EXPIRED
