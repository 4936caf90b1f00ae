"""Defines the resources that all use cases share: the store, the tokens, the limits, the clock,
random numbers, and others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from session_authority.authority.best_effort_writes import BestEffortWrites
from session_authority.authority.commit_attempts import Attempts, UserLocks
from session_authority.authority.reassertions import Reassertions
from session_authority.domain.addresses import placed_address
from session_authority.domain.assigned_ids import RANDOM_BYTES, assign_device_id
from session_authority.domain.clients import Client
from session_authority.domain.errors import FieldViolation, InvalidRequest
from session_authority.domain.fields import LARGEST_CLAIMS
from session_authority.domain.places import NO_PLACE
from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.sessions import MAX_COPY, SessionRecord, Token
from session_authority.geoip import Places
from session_authority.runtime.metrics import Metrics
from session_authority.store import SessionStore
from session_authority.store.records import Commit, RemovedSessions, Stored
from session_authority.store.removed_sessions import count_live
from session_authority.tokens import Tokens, TokenTooLarge


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources that all use cases share. `clock` returns aware times in UTC, truncated to
    milliseconds.
    """

    store: SessionStore
    tokens: Tokens
    limits: SessionLimits
    metrics: Metrics
    clock: Callable[[], datetime]
    random_bytes: Callable[[int], bytes]
    user_locks: UserLocks
    best_effort: BestEffortWrites
    reassertions: Reassertions
    places: Places

    def attempts(self) -> Attempts:
        """Makes the counter of the attempts of one use case."""
        return Attempts(self.clock, self.metrics)

    def placed(self, client: Client) -> Client:
        """Returns the client with the place of its IP address, unless the caller gave a place. Call
        this method only for a client that will be written. Most validations write no client, and
        must not wait for the look-up of a place.
        """
        address = placed_address(client.ip_address)
        if client.place != NO_PLACE or address is None:
            return client
        return replace(client, place=self.places(address))

    def new_uuid(self) -> UUID:
        """Makes a random UUID (RFC 9562 §5.4)."""
        return UUID(bytes=self.random_bytes(16), version=4)

    def assigned_id(self) -> UUID:
        """Makes a device ID for a request without a device ID."""
        return assign_device_id(self.random_bytes(RANDOM_BYTES))

    def new_copy(self) -> int:
        """Makes the number that tells a copy of a token from other copies: 16 random bits. The
        number is never 0, because 0 stands for any copy.
        """
        while True:
            copy = int.from_bytes(self.random_bytes(2))
            if copy:
                return copy & MAX_COPY

    def sign(self, token: Token) -> str:
        """Signs a token and returns its text. Raises InvalidRequest if the token is too large."""
        try:
            return self.tokens.sign(token)
        except TokenTooLarge as error:
            raise _too_large(token, error) from None

    def sign_first(self, token: Token) -> str:
        """Signs the first token of a session and returns its text. Raises InvalidRequest if this
        token is too large, or if a later token of the session with the same claims would be too
        large. So no renewal with the same claims fails because of the size.
        """
        try:
            self.tokens.check_room(token)
        except TokenTooLarge as error:
            raise _too_large(token, error) from None
        return self.sign(token)

    def check_claims(self, token: Token) -> None:
        """Checks the size of a token with new claims. Raises InvalidRequest if this token, or a
        later token of its session with the same claims, would be too large.
        """
        try:
            self.tokens.check_room(token)
        except TokenTooLarge as error:
            raise InvalidRequest([FieldViolation("claims", _room_rule(error))]) from None

    def has_room_for_any_claims(self, token: Token) -> bool:
        """Returns True if tokens of the session of `token` have room for any allowed claims."""
        try:
            self.tokens.check_room(replace(token, claims=LARGEST_CLAIMS))
        except TokenTooLarge:
            return False
        return True

    def remove_ended(
        self, user_id: str, ended: Mapping[bytes, Stored[SessionRecord]], now: datetime
    ) -> None:
        """Removes the records of sessions that have expired. The records are removed in the
        background, by a best-effort write.
        """
        if ended:
            gone = dict.fromkeys(ended)
            commit = Commit(user_id, now, if_sessions=ended, set_sessions=gone, durable=False)
            self.best_effort.write(user_id, min(ended), lambda: self.store.commit(commit))

    def count_live(self, removed: RemovedSessions, now: datetime) -> int:
        """Counts the removed sessions that were live at `now`. Sessions that can't be read are not
        counted.
        """
        return count_live(removed, self.limits, now)


def _too_large(token: Token, error: TokenTooLarge) -> InvalidRequest:
    """Makes the error for a token that is too large. The error names the fields of the request that
    need room in the token: the user ID, and the claims and the authentication methods if the token
    has any.
    """
    told = _room_rule(error)
    given = {"user_id": True, "claims": token.claims, "auth_methods": token.auth_methods}
    return InvalidRequest([FieldViolation(field, told) for field, there in given.items() if there])


def _room_rule(error: TokenTooLarge) -> str:
    return f"must leave room for the other fields of the token: {error}"
