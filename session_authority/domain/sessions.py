"""Defines the record of a session in the store, and the contents of the session's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from session_authority.domain.session_limits import SessionLimits

SESSION_ID_BYTES = 16
REPLACED_ID_BYTES = 8
MAX_COPY = 0xFFFF


class StoredClaims(Enum):
    """Says whether the store has claims for a session, apart from the session's record. If the
    store has claims, every new token of the session gets these claims.

    NONE means that the store has no claims for the session. IN_TOKENS means that a token of the
    session has the stored claims. NEWER means that possibly no token of the session has the stored
    claims yet.
    """

    NONE = 0
    IN_TOKENS = 1
    NEWER = 2


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """The store's record of one session of a user on a device. The session may be past its end.

    `replaced` is the start of the ID of an earlier session: the session that was live on the device
    when this session began. `replaced` is None if no session was live. `holder` is the only copy of
    the current generation that is still good. `holder` is None while every copy of the current
    generation is good. `predecessor` is the only copy of the previous generation that is still
    good. `predecessor` is None if every copy of the previous generation is good.

    `dated_at` is the time at which the current generation was made, or a later time that
    `copy_again` has set. `token_ends_at` is the time at which the tokens of the current generation
    expire. `ends_at` is the absolute end that was set at sign-in; see `absolute_end`.
    `first_seen_at` is the time at which a token of the current generation was first seen.
    `first_seen_at` is None if no token of the current generation was seen yet. `last_seen_at` is
    the time of the last use, or of a use at most `touch_interval` before the last use. If the store
    lost a touch, `last_seen_at` is older.

    `idle_timeout` is the idle timeout that the sign-in requested, one of the steps of
    `idle_timeouts`. If `idle_timeout` is None, the service's own timeout applies. `stored_claims`
    says whether the store has claims for the session. `later` holds bytes that a later version of
    the service wrote. The service keeps the bytes in `later` unchanged and never reads them.
    """

    session_id: bytes
    replaced: bytes | None
    generation: int
    holder: int | None
    predecessor: int | None
    signed_in_at: datetime
    dated_at: datetime
    token_ends_at: datetime
    ends_at: datetime
    first_seen_at: datetime | None
    last_seen_at: datetime
    idle_timeout: timedelta | None = None
    stored_claims: StoredClaims = StoredClaims.NONE
    later: bytes = b""

    def absolute_end(self, limits: SessionLimits) -> datetime:
        """Returns the moment at which the session ends even if it is used: the end that was set at
        sign-in, or an earlier end if `SESSION_TTL` was lowered after the sign-in.
        """
        return min(self.ends_at, self.signed_in_at + limits.session_ttl)

    def expires_at(self, limits: SessionLimits) -> datetime:
        """Returns the moment at which the session ends if it is not used again: its absolute end or
        its idle end, whichever is earlier.
        """
        idle = limits.idle_timeout
        if self.idle_timeout is not None:
            idle = min(idle, self.idle_timeout)
        return min(self.absolute_end(limits), self.last_seen_at + idle)

    def is_live(self, limits: SessionLimits, now: datetime) -> bool:
        """Returns True if the session has reached neither its absolute nor its idle end."""
        return now < self.expires_at(limits)


@dataclass(frozen=True, slots=True)
class Token:
    """The contents of an access token. The first five fields together identify the token. `copy`
    tells two tokens of the same generation apart.
    """

    user_id: str
    device_key: bytes
    session_id: bytes
    generation: int
    copy: int
    issued_at: datetime
    expires_at: datetime
    signed_in_at: datetime
    claims: Mapping[str, str]
    auth_methods: tuple[str, ...]
