"""Changes the claims of live sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from session_authority.authority.device_events import device_event
from session_authority.authority.resources import Resources
from session_authority.domain.errors import SessionNotFound
from session_authority.domain.events import Event, EventType
from session_authority.domain.identifiers import device_key
from session_authority.domain.session_claims import ClaimsChange, change_claims
from session_authority.domain.sessions import MAX_COPY, Token
from session_authority.store.records import Commit, Committed, UserState


class SessionUpdates:
    """Carries out UpdateSession."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._store = resources.store
        self._limits = resources.limits

    async def update_session(
        self, user_id: str, device_id: UUID | None, claims: Mapping[str, str], actor: str
    ) -> int:
        """Changes the claims of the session on a device, or of all sessions of a user. Returns the
        number of sessions that now have the new claims, including sessions that had the same claims
        before.

        Nothing is written for sessions that have the new claims already. So a repeated call does
        not write a second event. A session that ends during the call stays ended.

        Args:
            user_id: The user.
            device_id: The device of the session. None for all sessions of the user.
            claims: The claims that the sessions get.
            actor: The name of the caller.

        Raises SessionNotFound if the user is not signed in on `device_id`. Raises InvalidRequest if
        a token with the claims would be too large. Raises Conflict if other requests change the
        same records at each attempt.
        """
        key = None if device_id is None else device_key(device_id)
        async with self._resources.user_locks.of(user_id):
            attempts = self._resources.attempts()
            while True:
                now = await attempts.next()
                state, stored = await asyncio.gather(
                    self._store.user(user_id), self._store.claims(user_id)
                )
                change = change_claims(
                    sessions=state.session_records(),
                    stored={k: s.record for k, s in stored.items()},
                    key=key,
                    claims=claims,
                    limits=self._limits,
                    now=now,
                )
                if device_id is not None and not change.claims:
                    raise SessionNotFound
                self._check_room(user_id, state, change)
                commit = Commit(
                    user_id,
                    now,
                    if_sessions={k: state.sessions[k] for k in change.changed},
                    if_claims={k: stored.get(k) for k in change.changed},
                    set_sessions=change.changed,
                    set_claims={k: change.claims[k] for k in change.changed},
                    events=(self._event(user_id, device_id, actor, state, now),),
                )
                if not change.changed:
                    # An earlier call may have changed the claims, and replicas may not have that
                    # change yet.
                    if change.claims:
                        await self._store.confirm(user_id)
                    return len(change.claims)
                if isinstance(await self._store.commit(commit), Committed):
                    return len(change.claims)

    def _check_room(self, user_id: str, state: UserState, change: ClaimsChange) -> None:
        """Raises InvalidRequest if a token of a changed session would be too large with the new
        claims.
        """
        for key, wanted in change.claims.items():
            record = state.sessions[key].record
            self._resources.check_claims(
                Token(
                    user_id=user_id,
                    device_key=key,
                    session_id=record.session_id,
                    generation=record.generation,
                    copy=MAX_COPY,
                    issued_at=record.dated_at,
                    expires_at=record.token_ends_at,
                    signed_in_at=record.signed_in_at,
                    claims=wanted.claims,
                    auth_methods=wanted.auth_methods,
                )
            )

    def _event(
        self, user_id: str, device_id: UUID | None, actor: str, state: UserState, now: datetime
    ) -> Event:
        """Makes the event about the change of claims. The event contains no claims, because events
        are kept for longer than sessions, and more services receive events.
        """
        kind = EventType.SESSION_UPDATED
        if device_id is None:
            return Event(kind, now, user_id, actor)
        key = device_key(device_id)
        session = state.sessions[key].record
        event = device_event(kind, now, user_id, actor, state.devices.get(key), session)
        return replace(event, device_id=device_id)
