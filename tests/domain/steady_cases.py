"""Makes random sessions with tokens, limits and times close to every edge.

`Case.judged_at` validates a token with `judge` and `mark`. It computes each result anew, while the
service may give an earlier answer again (see `steady_verdicts`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from session_authority.domain import steady_verdicts
from session_authority.domain.idle_timeouts import STEPS
from session_authority.domain.moments import whole_second
from session_authority.domain.renewals import mark
from session_authority.domain.session_limits import LEEWAY, ReplayAlarm, SessionLimits
from session_authority.domain.sessions import SessionRecord, StoredClaims, Token
from session_authority.domain.verdicts import judge
from tests.domain.samples import (
    COPY,
    DAY,
    ENDED,
    MINUTE,
    MS,
    NOW,
    OTHER_COPY,
    PHONE_KEY,
    REPLACED,
    SECOND,
    SESSION,
    record,
    token,
)

_TICK = datetime.resolution
_NEAR = (-SECOND, -MS, -_TICK, 0 * MS, _TICK, MS, SECOND)


@dataclass(frozen=True)
class Case:
    """A token that is presented on its own device at `now`, and perhaps again at the `later`
    moments.
    """

    record: SessionRecord
    token: Token
    limits: SessionLimits
    now: datetime
    passive: bool
    later: tuple[datetime, ...]

    def until(self) -> datetime | None:
        """Returns the moment until which the answer of `now` may be given again. Returns None if
        the answer may not be given again.
        """
        return steady_verdicts.steady_until(
            self.record, self.token, self.limits, self.now, passive=self.passive
        )

    def judged_at(self, now: datetime) -> tuple[object, ...]:
        """Returns everything that a validation at the given moment answers and writes."""
        verdict = judge(self.record, self.token, PHONE_KEY, self.limits, now)
        used = mark(
            verdict.forwarded or self.record, self.token, self.limits, now, passive=self.passive
        )
        return (
            now >= self.token.expires_at + LEEWAY,
            verdict,
            used,
            used.expires_at(self.limits),
            used.absolute_end(self.limits),
        )


def case_of(random: Random) -> Case:
    """Returns a different case for each state of `random`."""
    limits = _limits(random)
    ages = [limits.grace, limits.durable_after, limits.alarm_after, limits.touch_interval, DAY]

    def ago() -> datetime:
        return NOW - random.choice(ages) * random.choice((0, 0.5, 1, 1, 2)) + random.choice(_NEAR)

    issued = whole_second(ago())
    presented = token(
        session_id=random.choice((SESSION,) * 8 + (REPLACED, ENDED)),
        generation=random.choice((7,) * 8 + (6, 8, 5)),
        copy=random.choice((COPY,) * 4 + (OTHER_COPY,)),
        issued_at=issued,
        expires_at=issued + random.choice((limits.token_ttl, MINUTE, SECOND, DAY)),
    )
    signed_in = min(ago(), ago())
    stored = replace(
        record(limits),
        replaced=random.choice((None, REPLACED[:8])),
        holder=random.choice((None, None, COPY, OTHER_COPY)),
        predecessor=random.choice((None, COPY)),
        signed_in_at=signed_in,
        dated_at=random.choice((ago(), issued)),
        ends_at=random.choice((NOW + DAY, signed_in + limits.session_ttl, NOW + MINUTE)),
        first_seen_at=random.choice((None, ago())),
        last_seen_at=ago(),
        idle_timeout=random.choice((None, None, STEPS[0], random.choice(STEPS))),
        stored_claims=random.choice(list(StoredClaims)),
        later=random.choice((b"", b"\x40")),
    )
    now = NOW + random.choice(_NEAR)
    edges = (*_edges(stored, presented, limits), now + timedelta(days=random.random()))
    later = sorted(edge + near for edge in edges for near in _NEAR)
    return Case(stored, presented, limits, now, random.random() < 0.3, tuple(later))


def _limits(random: Random) -> SessionLimits:
    grace, durable = random.choice((SECOND, 30 * SECOND)), random.choice((SECOND, 3 * MINUTE))
    return SessionLimits(
        token_ttl=random.choice((10 * MINUTE, timedelta(hours=1))),
        session_ttl=random.choice((DAY, 30 * DAY)),
        idle_timeout=random.choice((10 * MINUTE, 7 * DAY)),
        grace=grace,
        durable_after=durable,
        alarm_after=grace + durable + random.choice((0, 1)) * MINUTE,
        replay_alarm=random.choice(list(ReplayAlarm)),
        touch_interval=random.choice((SECOND, MINUTE, timedelta(hours=1))),
    )


def _edges(stored: SessionRecord, presented: Token, limits: SessionLimits) -> tuple[datetime, ...]:
    """Returns the moments at which a rule may change its decision: each interval after each date,
    and each end.
    """
    dates = (stored.dated_at, stored.last_seen_at, stored.first_seen_at, presented.issued_at)
    spans = (limits.grace, limits.durable_after, limits.alarm_after, limits.touch_interval)
    middle = presented.issued_at + (presented.expires_at - presented.issued_at) / 2
    ends = (
        middle,
        presented.expires_at,
        presented.expires_at + LEEWAY,
        stored.absolute_end(limits),
        stored.expires_at(limits),
    )
    return (*(date + span for date in dates if date is not None for span in spans), *ends)
