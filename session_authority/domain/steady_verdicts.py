"""Computes how long a validation gives the same answer if the session's record stays the same.

The service may keep the answer to a validation. Before the service gives a kept answer again, it
reads the record of the session, and checks that the record is still the same. While the record is
the same, only the passage of time can change the results of `judge` and `mark`. This module
computes the first moment at which these results change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from session_authority.domain.session_limits import LEEWAY, ReplayAlarm, SessionLimits
from session_authority.domain.sessions import SessionRecord, StoredClaims, Token

# A function of this type computes the first moment at which one condition of the answer changes.
# The function returns None if the passage of time does not change the condition.
_Change = Callable[[SessionRecord, Token, SessionLimits], datetime | None]


@dataclass(frozen=True, slots=True)
class Steadiness:
    """Says how long an ACTIVE answer holds while the bytes of the session's record are `raw`.

    The answer holds from `since` until just before `until`. The answer to a passive request holds
    until just before `passive_until`. `passive_until` may be later than `until`, because a passive
    request does not count as a use.
    """

    raw: bytes
    since: datetime
    until: datetime
    passive_until: datetime

    def holds_at(self, now: datetime, *, passive: bool) -> bool:
        """Returns True if a request at the moment `now` gets the same answer."""
        return self.since <= now < (self.passive_until if passive else self.until)


def steadiness(
    record: SessionRecord, raw: bytes, token: Token, limits: SessionLimits, now: datetime
) -> Steadiness | None:
    """Computes how long the answer to a token with its own device ID holds. Returns None if the
    answer must not be repeated.

    Args:
        record: The record of the session.
        raw: The bytes of the same record in the store.
        token: The presented token.
        limits: The limits of sessions.
        now: The present time.
    """
    passive_until = steady_until(record, token, limits, now, passive=True)
    if passive_until is None:
        return None
    until = max(now, min(passive_until, _touch_is_due(record, limits)))
    return Steadiness(raw, now, until, passive_until)


def steady_until(
    record: SessionRecord,
    token: Token,
    limits: SessionLimits,
    now: datetime,
    *,
    passive: bool = False,
) -> datetime | None:
    """Computes the first moment at which the answer to a token with its own device ID can change,
    although the session's record stays the same.

    Before the returned moment, the token is ACTIVE, the advice to renew is unchanged, and a use of
    the token adds no mark to the record. Returns None if the token is not ACTIVE now, or is not of
    the current generation. Also returns None if a use of the token adds a mark now.
    """
    if not _is_newest(record, token):
        return None
    moments = [at for change in _CHANGES if (at := change(record, token, limits)) is not None]
    if not passive:
        moments.append(_touch_is_due(record, limits))
    advised_at = _renewal_is_advised(record, token)
    if advised_at is not None and now < advised_at:
        moments.append(advised_at)
    until = min(moments)
    return until if now < until else None


def _is_newest(record: SessionRecord, token: Token) -> bool:
    """Returns True if the token is a copy of the record's current generation that is still good."""
    return (
        token.session_id == record.session_id
        and token.generation == record.generation
        and record.holder in (None, token.copy)
    )


def _token_is_over(_: SessionRecord, token: Token, __: SessionLimits) -> datetime:
    return token.expires_at + LEEWAY


def _session_is_over(record: SessionRecord, _: Token, limits: SessionLimits) -> datetime:
    return record.expires_at(limits)


def _token_is_durable(
    record: SessionRecord, token: Token, limits: SessionLimits
) -> datetime | None:
    """Computes the first moment at which a use of the token proves that its client has kept the
    token. Returns None if a token of the record's generation was already seen.
    """
    return None if record.first_seen_at is not None else token.issued_at + limits.durable_after


def _copy_is_settled(record: SessionRecord, token: Token, limits: SessionLimits) -> datetime | None:
    """Computes the first moment at which a validation of the token makes this token the holder.
    Returns None if the record has a holder already, or if validations never set the holder.
    """
    if record.holder is not None or limits.replay_alarm is not ReplayAlarm.PRESENTED:
        return None
    return max(record.dated_at + limits.alarm_after, token.issued_at + limits.durable_after)


def _touch_is_due(record: SessionRecord, limits: SessionLimits) -> datetime:
    return record.last_seen_at + limits.touch_interval


def _renewal_is_advised(record: SessionRecord, token: Token) -> datetime | None:
    """Returns the first moment at which less than half of the token's life is left. Returns None if
    the store has claims that the token may lack, because the client is then advised to renew at any
    time.
    """
    if record.stored_claims is StoredClaims.NEWER:
        return None
    return token.expires_at - (token.expires_at - token.issued_at) / 2 + datetime.resolution


_CHANGES: tuple[_Change, ...] = (
    _token_is_over,
    _session_is_over,
    _token_is_durable,
    _copy_is_settled,
)
