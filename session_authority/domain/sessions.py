"""The record of a session in the store, and the contents of the session's tokens."""

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
    """Says whether the store has claims of a session, separate from the session's record. If the
    store has claims, every new token gets these claims. NEWER means that possibly no token has
    these claims yet.
    """

    NONE = 0
    IN_TOKENS = 1
    NEWER = 2


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """The store's record of one session of a user on a device. The session may be past its end.

    `replaced` is the start of the ID of the session that was live on the device at the sign-in
    (None: there was no live session). `holder` is the only copy of the current generation that is
    still good (None: every copy is good). `predecessor` is the only copy of the previous generation
    that is still good (None: every copy is good).

    `dated_at` is when the current generation was made. `copy_again` can move this date.
    `token_ends_at` is the end of the tokens of this generation. `ends_at` is the absolute end as
    set at sign-in; see `absolute_end`. `first_seen_at` is when a client first proved that it keeps
    a token of this generation (None: not yet). `last_seen_at` is the time of a use: either the last
    use, or a use at most `touch_interval` before the last use.

    `idle_timeout` is the idle timeout as set at sign-in, one of the steps of `idle_timeouts` (None:
    the service's own timeout). `stored_claims` says where the session's claims are. `later` holds
    bytes that a later version of the service wrote. These bytes are kept unchanged and never read.
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
        sign-in, or an earlier end if `SESSION_TTL` was lowered since then.
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
    """The contents of an access token. The first five fields are the token's identity. `copy`
    distinguishes two clients that have tokens of the same generation.
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
