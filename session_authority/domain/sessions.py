"""What is known of a session, and what a token of it says."""

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
    """Whether the store has claims of a session, beside its record: then every token that is made
    has those. NEWER: perhaps no token has them yet.
    """

    NONE = 0
    IN_TOKENS = 1
    NEWER = 2


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What the store knows of one live session of a user on a device.

    `replaced` is the start of the ID of the session that this sign-in replaced on the device, if
    that one was live. `dated_at` is when the current generation was made, `first_seen_at` when a
    token of it first proved that its client keeps it (None: not yet). `holder` is the only copy of
    it that is still good, `predecessor` the only one of the generation before it (None: any).
    `ends_at` is the absolute end that the sign-in gave; see `absolute_end`. `idle_timeout` is the
    idle time that it gave, one of the steps of `idle_timeouts` (None: the service's).
    `stored_claims` says where its claims are. `later` is what a later version of the service wrote
    of this session: kept as it is, and never read.
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
        """When the session ends however much it is used: at the end that its sign-in gave, or
        earlier if the longest time that sessions may last was lowered since.
        """
        return min(self.ends_at, self.signed_in_at + limits.session_ttl)

    def expires_at(self, limits: SessionLimits) -> datetime:
        """When the session ends if it is not used again: its absolute or its idle end, whichever is
        first.
        """
        idle = limits.idle_timeout
        if self.idle_timeout is not None:
            idle = min(idle, self.idle_timeout)
        return min(self.absolute_end(limits), self.last_seen_at + idle)

    def is_live(self, limits: SessionLimits, now: datetime) -> bool:
        """It has reached neither its absolute nor its idle end."""
        return now < self.expires_at(limits)


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
    issued_at: datetime
    expires_at: datetime
    signed_in_at: datetime
    claims: Mapping[str, str]
    auth_methods: tuple[str, ...]
