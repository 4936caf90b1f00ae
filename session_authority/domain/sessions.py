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
    """Says whether the store has claims of a session in addition to its record. If so, every new
    token gets these claims. NEWER means that possibly no token has them yet.
    """

    NONE = 0
    IN_TOKENS = 1
    NEWER = 2


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """The store's record of one live session of a user on a device.

    `replaced` is the start of the ID of the live session that this sign-in replaced on the device,
    if there was one. `dated_at` is when the current generation was made. `first_seen_at` is when a
    token of this generation first proved that its client keeps it (None: not yet). `holder` is the
    only copy of the current generation that is still good, and `predecessor` the only good copy of
    the previous generation (None: any copy). `ends_at` is the absolute end as set at sign-in; see
    `absolute_end`. `idle_timeout` is the idle timeout as set at sign-in, one of the steps of
    `idle_timeouts` (None: the service's). `stored_claims` says where the session's claims are.
    `later` holds bytes that a later version of the service wrote. They are kept unchanged and never
    read.
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
        """The moment at which the session ends even if it is used. It is earlier than the end that
        was set at sign-in if the setting for the longest session was lowered since then.
        """
        return min(self.ends_at, self.signed_in_at + limits.session_ttl)

    def expires_at(self, limits: SessionLimits) -> datetime:
        """The moment at which the session ends if it is not used again: its absolute end or its
        idle end, whichever is earlier.
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
