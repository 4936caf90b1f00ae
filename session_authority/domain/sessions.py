"""The rule of generations: when a token is good, what a renewal hands out, and what using a token
proves.

A client proves that a reply arrived by presenting what was in it; until then an older token may be
all it has. So a token is superseded not when its successor is made but when its successor is
*seen*. Order comes from generations and never from clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from session_authority.domain.policy import MAX_LOST_GENERATIONS, Policy

SESSION_ID_BYTES = 16
REPLACED_ID_BYTES = 8
MAX_COPY = 0xFFFF


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
class SessionRecord:
    """What the store knows of one live session of a user on a device.

    `replaced` is the start of the ID of the session that this sign-in replaced on the device, if
    that one was live. `dated` is when the current generation was made, `first_seen` when it was
    first used (None: not yet). `holder` is the only copy of it that is still good, `predecessor`
    the only one of the generation before it (None: any). `end` is the absolute end.
    """

    session_id: bytes
    replaced: bytes | None
    generation: int
    holder: int | None
    predecessor: int | None
    sign_in: datetime
    dated: datetime
    token_end: datetime
    end: datetime
    first_seen: datetime | None
    last_seen: datetime

    def expires(self, policy: Policy) -> datetime:
        """When the session ends if it is not used again: its absolute or its idle end, whichever is
        first.
        """
        return min(self.end, self.last_seen + policy.idle_timeout)

    def is_live(self, policy: Policy, now: datetime) -> bool:
        """It has reached neither its absolute nor its idle end."""
        return now < self.expires(policy)


@dataclass(frozen=True, slots=True)
class Token:
    """What an access token says. Identity is the first five fields; `copy` tells two holders of one
    generation apart.
    """

    user_id: str
    device_key: bytes
    session_id: bytes
    generation: int
    copy: int
    issued: datetime
    expires: datetime
    sign_in: datetime
    claims: Mapping[str, str]
    auth_methods: tuple[str, ...]


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


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal leads to.

    `record` is what the record becomes (None: stays). It must be committed before a token is handed
    out; where `hand_out` is false it only marks what was seen, and losing it is harmless.
    """

    verdict: Verdict
    record: SessionRecord | None = None
    hand_out: bool = False


def judge(
    record: SessionRecord | None, token: Token, presented_key: bytes, policy: Policy, now: datetime
) -> Verdict:
    """The verdict table, from the row "none" on, for a verified token that was presented with a
    device key.

    `record` is that of the token's user and the *token's* device key. Whether the token itself has
    expired is asked before: a renewal does not mind.
    """
    if record is None:
        return Verdict(SessionStatus.NO_SESSION)
    if not record.is_live(policy, now):
        return Verdict(SessionStatus.SESSION_EXPIRED)
    verdict = _judge_on_its_device(record, token, policy, now)
    if presented_key == token.device_key:
        return verdict
    if verdict.status in (SessionStatus.ACTIVE, SessionStatus.REPLAYED):
        return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.LEFT_DEVICE)
    return Verdict(SessionStatus.WRONG_DEVICE)


def _judge_on_its_device(
    record: SessionRecord, token: Token, policy: Policy, now: datetime
) -> Verdict:
    if token.session_id == record.session_id:
        return _judge_generation(record, token, policy, now)
    if record.replaced is not None and token.session_id[:REPLACED_ID_BYTES] == record.replaced:
        # A token made shortly before the new sign-in may have reached its client after it, and
        # stayed there.
        crossed = token.issued > record.sign_in - policy.alarm_after
        if crossed or record.first_seen is None or now - record.first_seen < policy.alarm_after:
            return Verdict(SessionStatus.SUPERSEDED)
        return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.REPLACED_SESSION)
    return Verdict(SessionStatus.SESSION_ENDED)


def _judge_generation(
    record: SessionRecord, token: Token, policy: Policy, now: datetime
) -> Verdict:
    ahead = token.generation - record.generation
    if ahead == 0:
        if record.holder is not None and record.holder != token.copy:
            return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.SECOND_COPY)
        half_life = (token.expires - token.issued) / 2
        return Verdict(SessionStatus.ACTIVE, renew_recommended=token.expires - now < half_life)
    if ahead > 0:
        if ahead > MAX_LOST_GENERATIONS or token.issued <= record.dated:
            return Verdict(SessionStatus.NO_SESSION)
        forwarded = replace(
            record,
            generation=token.generation,
            holder=None,
            predecessor=None,
            dated=token.issued,
            token_end=token.expires,
            first_seen=now,
            last_seen=max(now, record.last_seen),
        )
        half_life = (token.expires - token.issued) / 2
        return Verdict(
            SessionStatus.ACTIVE,
            renew_recommended=token.expires - now < half_life,
            forwarded=forwarded,
        )
    if ahead == -1:
        if record.predecessor is not None and record.predecessor != token.copy:
            return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.SECOND_COPY)
        if record.first_seen is None or now - record.first_seen < policy.grace:
            return Verdict(SessionStatus.ACTIVE, renew_recommended=True)
        if now - record.first_seen < policy.alarm_after:
            return Verdict(SessionStatus.SUPERSEDED)
    return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.SUPERSEDED_TOKEN)


def mark(record: SessionRecord, token: Token, policy: Policy, now: datetime) -> SessionRecord:
    """The record after an active token of its session was presented: what that proves, and when it
    was.

    Equal to `record` if there is nothing new. Losing a mark is harmless.
    """
    holder, first_seen, last_seen = record.holder, record.first_seen, _touched(record, policy, now)
    if token.generation == record.generation:
        if holder is None and now - record.dated >= policy.alarm_after:
            holder = token.copy
        first_seen = now if first_seen is None else first_seen
    if (
        holder == record.holder
        and first_seen is record.first_seen
        and last_seen is record.last_seen
    ):
        return record
    return replace(record, holder=holder, first_seen=first_seen, last_seen=last_seen)


def _touched(record: SessionRecord, policy: Policy, now: datetime) -> datetime:
    """When it was last seen, as far as that is worth a write."""
    return now if now - record.last_seen >= policy.touch_interval else record.last_seen


def renew(
    record: SessionRecord | None, token: Token, presented_key: bytes, policy: Policy, now: datetime
) -> Renewal:
    """What presenting a token for renewal leads to: the next generation, another copy of the
    current one, or nothing new.
    """
    verdict = judge(record, token, presented_key, policy, now)
    if verdict.status is not SessionStatus.ACTIVE:
        return Renewal(verdict)
    assert record is not None  # only a record makes a token ACTIVE
    current = verdict.forwarded or record
    if token.generation == current.generation:
        if now - current.dated >= policy.alarm_after:
            return Renewal(verdict, record=_rotate(current, token, policy, now), hand_out=True)
        return Renewal(verdict, record=mark(current, token, policy, now))
    if current.first_seen is None:
        return Renewal(verdict, record=copy_again(current, policy, now), hand_out=True)
    return Renewal(verdict, record=mark(current, token, policy, now))


def _rotate(record: SessionRecord, token: Token, policy: Policy, now: datetime) -> SessionRecord:
    """The next generation. The copy that asks for it is by its age the settled one: no other of its
    generation is good.

    Else two holders who never present what the other has not yet moved on from could share a
    session for ever.
    """
    return replace(
        record,
        generation=record.generation + 1,
        holder=None,
        predecessor=token.copy,
        dated=now,
        token_end=min(now + policy.token_ttl, record.end),
        first_seen=None,
        last_seen=now,
    )


def copy_again(record: SessionRecord, policy: Policy, now: datetime) -> SessionRecord:
    """The record when another copy of its generation, which nobody has seen in use, is handed out.

    Dated anew if it is older than GRACE: else the first copy that is presented could become the
    holder at once, and the other one, still on its way, would look like a thief's.
    """
    if now - record.dated <= policy.grace:
        return replace(record, last_seen=_touched(record, policy, now))
    return replace(
        record, dated=now, token_end=min(now + policy.token_ttl, record.end), last_seen=now
    )


def sign_in(
    *,
    session_id: bytes,
    replaced: SessionRecord | None,
    session_ttl_end: datetime,
    policy: Policy,
    now: datetime,
) -> SessionRecord:
    """The record of a fresh session: generation 1, not yet seen. `replaced` is the live session
    that was on the device.
    """
    return SessionRecord(
        session_id=session_id,
        replaced=None if replaced is None else replaced.session_id[:REPLACED_ID_BYTES],
        generation=1,
        holder=None,
        predecessor=None,
        sign_in=now,
        dated=now,
        token_end=min(now + policy.token_ttl, session_ttl_end),
        end=session_ttl_end,
        first_seen=None,
        last_seen=now,
    )
