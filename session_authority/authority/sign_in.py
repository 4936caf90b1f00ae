"""Signs a user in on a device. If a request is repeated with the same `request_id` within 15
minutes, the user is signed in only once.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from session_authority.authority.device_events import device_event
from session_authority.authority.resources import Resources
from session_authority.domain.devices import ListedDevice, listed
from session_authority.domain.errors import DeviceLimitReached, RequestIdReused, RequestIdSpent
from session_authority.domain.events import Event, EventType
from session_authority.domain.identifiers import device_key
from session_authority.domain.moments import whole_second
from session_authority.domain.renewals import copy_again
from session_authority.domain.requests import SignInRequest
from session_authority.domain.results import IssuedDevice
from session_authority.domain.session_claims import SessionClaims
from session_authority.domain.sessions import (
    SESSION_ID_BYTES,
    SessionRecord,
    StoredClaims,
    Token,
)
from session_authority.domain.sign_in import SignIn, decide_sign_in, needs_all_records
from session_authority.store.records import (
    Commit,
    Committed,
    IssuedRecord,
    Once,
    RemovedSessions,
    Unreadable,
    UserState,
)

# The reason in an event about a session that a new sign-in had replaced. The event is written only
# if a failover lost the replacement and the session is ended once more.
_REPLACED = "replaced"
# The name in the metrics of a sign-in that repeats an earlier request with the same `request_id`.
_REPEATED = "repeated"


class SignIns:
    """Carries out IssueDevice."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._store = resources.store
        self._limits = resources.limits

    async def issue_device(self, request: SignInRequest, actor: str) -> IssuedDevice:
        """Signs a user in on a device.

        Raises DeviceLimitReached if the sign-in would exceed the limit of devices and the service
        must not end other sessions. Raises RequestIdReused or RequestIdSpent if the `request_id`
        was used before and the answer can't be repeated. Raises InvalidRequest if the token would
        be too large. Raises Conflict if other requests change the same records at each attempt.
        """
        metrics = self._resources.metrics
        try:
            issued, outcome = await self._issue(request, actor)
        except DeviceLimitReached:
            metrics.signed_in("device_limit")
            raise
        metrics.signed_in(outcome)
        if outcome != _REPEATED:
            metrics.revoked("evicted", len(issued.evicted))
        return issued

    async def _issue(self, request: SignInRequest, actor: str) -> tuple[IssuedDevice, str]:
        """Signs the user in. Returns the answer, and the name of the result in the metrics."""
        request = replace(request, client=self._resources.placed(request.client))
        device_id = request.device_id or self._resources.new_uuid()
        session_id = self._resources.random_bytes(SESSION_ID_BYTES)
        async with self._resources.user_locks.of(request.user_id):
            attempts = self._resources.attempts()
            while True:
                now = await attempts.next()
                state = await self._state_for(request, device_key(device_id), now)
                if state.issued is not None:
                    issued = await self._try_issue_again(request, state, state.issued, now)
                    if issued is not None:
                        return issued, _REPEATED
                    continue
                issued = await self._try_issue(request, device_id, session_id, state, actor, now)
                if issued is not None:
                    return issued, "new_device" if issued.new_device else "known_device"

    async def _state_for(self, request: SignInRequest, key: bytes, now: datetime) -> UserState:
        """Reads as much of the user's state as the sign-in needs. If the user has many devices, a
        small part of the state is nearly always enough.
        """
        state = await self._store.user_at(request.user_id, key, request.request_id)
        if state.issued is not None or needs_all_records(
            sessions=state.session_records(),
            devices=state.device_records(),
            key=key,
            unread_sessions=state.unread_sessions,
            unread_devices=state.unread_devices,
            limits=self._limits,
            now=now,
        ):
            return await self._store.user(request.user_id, request.request_id)
        return state

    async def _try_issue(
        self,
        request: SignInRequest,
        device_id: UUID,
        session_id: bytes,
        state: UserState,
        actor: str,
        now: datetime,
    ) -> IssuedDevice | None:
        key = device_key(device_id)
        decision = decide_sign_in(
            sessions=state.session_records(),
            devices=state.device_records(),
            key=key,
            device_id=device_id,
            session_id=session_id,
            client=request.client,
            session_end=now + request.session_ttl,
            idle_timeout=request.idle_timeout,
            auth_methods=request.auth_methods,
            limits=self._limits,
            now=now,
            unreadable={*state.unreadable_sessions, *state.unreadable_devices},
        )
        # The token is signed before anything is written: if signing fails, no session may be left
        # in the store.
        token = self._token(request, key, decision.session, now)
        access_token = self._resources.sign_first(token)
        kept = self._claims_to_keep(token)
        if kept is not None:
            session = replace(decision.session, stored_claims=StoredClaims.IN_TOKENS)
            decision = replace(decision, session=session)
        commit = self._commit_of(request, decision, kept, state, key, actor, now)
        if not isinstance(await self._store.commit(commit), Committed):
            return None
        self._note_ended(decision, state, commit, key)
        return IssuedDevice(
            device=listed(
                key,
                decision.device.kept(self._store.addresses),
                decision.session,
                self._limits,
                now,
            ),
            access_token=access_token,
            token_expires_at=whole_second(decision.session.token_ends_at),
            device_id_assigned=request.device_id is None,
            new_device=decision.new_device,
            evicted=self._evicted(decision.evicted, state, now),
        )

    def _commit_of(
        self,
        request: SignInRequest,
        decision: SignIn,
        kept: SessionClaims | None,
        state: UserState,
        key: bytes,
        actor: str,
        now: datetime,
    ) -> Commit:
        gone = (*decision.ended, *decision.evicted)
        evictions = (
            device_event(
                EventType.DEVICE_EVICTED,
                now,
                request.user_id,
                actor,
                state.devices.get(evicted),
                state.sessions[evicted].record,
            )
            for evicted in decision.evicted
        )
        return Commit(
            request.user_id,
            now,
            if_sessions={key: state.session_at(key)} | {k: state.sessions[k] for k in gone},
            if_devices={key: state.device_at(key)} | {k: state.devices[k] for k in decision.pruned},
            if_session_count=state.session_count(),
            once=self._once_of(request, decision, state.unreadable_issued),
            set_sessions={key: decision.session} | dict.fromkeys(gone),
            set_devices={key: decision.device} | dict.fromkeys(decision.pruned),
            set_claims={key: kept},
            events=(_signed_in_event(request, decision, actor, now), *evictions),
        )

    def _note_ended(self, decision: SignIn, state: UserState, commit: Commit, key: bytes) -> None:
        """Tells `Reassertions` which sessions this sign-in has ended: the session that the new
        session replaced, and the evicted sessions.
        """
        note, user_id = self._resources.reassertions.note, commit.user_id
        signed_in, *evictions = commit.events
        for evicted, event in zip(decision.evicted, evictions, strict=True):
            note(user_id, RemovedSessions((state.sessions[evicted].raw,)), event)
        if decision.replaced:
            before, kind = state.sessions[key], EventType.DEVICE_REVOKED
            event = device_event(
                kind, commit.now, user_id, signed_in.actor, state.devices.get(key), before.record
            )
            note(user_id, RemovedSessions((before.raw,)), replace(event, reason=_REPLACED))

    def _once_of(
        self, request: SignInRequest, decision: SignIn, unreadable: Unreadable | None
    ) -> Once | None:
        if request.request_id is None:
            return None
        record = IssuedRecord(
            request_digest=request.digest(),
            session_id=decision.session.session_id,
            device_id=decision.device.device_id,
            device_id_assigned=request.device_id is None,
            new_device=decision.new_device,
            evicted=decision.evicted,
        )
        return self._store.once_for_request(request.user_id, request.request_id, record, unreadable)

    async def _try_issue_again(
        self, request: SignInRequest, state: UserState, issued: IssuedRecord, now: datetime
    ) -> IssuedDevice | None:
        """Returns the answer to a request that repeats an earlier request with the same
        `request_id`. The answer has another copy of the first token of the session. Returns None if
        a record has changed since it was read.

        Raises RequestIdReused if the two requests have different contents. Raises RequestIdSpent if
        a token of the session was seen, or if the session has a newer generation, was replaced or
        has ended. Also raises RequestIdSpent if the record of the session or of the device is
        missing. A use of a token before the age of `DURABLE_AFTER` does not count as seen.
        """
        if issued.request_digest != request.digest():
            raise RequestIdReused
        key = device_key(issued.device_id)
        stored, device = state.sessions.get(key), state.devices.get(key)
        if (
            stored is None
            or device is None
            or stored.record.session_id != issued.session_id
            or stored.record.generation != 1
            or stored.record.first_seen_at is not None
            or not stored.record.is_live(self._limits, now)
        ):
            raise RequestIdSpent
        record = copy_again(stored.record, self._limits, now)
        changed = await self._store.claims_of(request.user_id, key, stored)
        token = self._token(request, key, record, now)
        if changed is not None:
            token = replace(token, claims=changed.record.claims)
        access_token = self._resources.sign_first(token)
        if record != stored.record:
            commit = Commit(
                request.user_id, now, if_sessions={key: stored}, set_sessions={key: record}
            )
            if not isinstance(await self._store.commit(commit), Committed):
                return None
        else:
            await self._store.confirm(request.user_id)
        return IssuedDevice(
            device=listed(key, device.record, record, self._limits, now),
            access_token=access_token,
            token_expires_at=whole_second(record.token_ends_at),
            device_id_assigned=issued.device_id_assigned,
            new_device=issued.new_device,
            evicted=self._evicted(issued.evicted, state, now),
        )

    def _evicted(
        self, keys: tuple[bytes, ...], state: UserState, now: datetime
    ) -> tuple[ListedDevice, ...]:
        return tuple(
            listed(k, state.devices[k].record, None, self._limits, now)
            for k in keys
            if k in state.devices
        )

    def _token(
        self, request: SignInRequest, key: bytes, record: SessionRecord, now: datetime
    ) -> Token:
        """Makes a new copy of the token of the record's generation. The copy is issued at the
        present time.
        """
        return Token(
            user_id=request.user_id,
            device_key=key,
            session_id=record.session_id,
            generation=record.generation,
            copy=self._resources.new_copy(),
            issued_at=whole_second(now),
            expires_at=whole_second(record.token_ends_at),
            signed_in_at=record.signed_in_at,
            claims=request.claims,
            auth_methods=request.auth_methods,
        )

    def _claims_to_keep(self, first: Token) -> SessionClaims | None:
        """Returns the claims that the store must have for a session from the sign-in on. Returns
        None if any allowed claims fit into a token of the session, as they nearly always do.
        `first` is the first token of the session.

        The result includes the authentication methods, so that a later call can compute whether
        other claims fit into a token.
        """
        if self._resources.has_room_for_any_claims(first):
            return None
        return SessionClaims(first.session_id, first.claims, first.auth_methods)


def _signed_in_event(request: SignInRequest, decision: SignIn, actor: str, now: datetime) -> Event:
    return Event(
        EventType.DEVICE_SIGNED_IN,
        now,
        request.user_id,
        actor,
        device_id=decision.device.device_id,
        device_display_name=decision.device.shown_name(),
        device_client=decision.device.last_client,
        client=request.client,
        session_id=decision.session.session_id,
        new_device=decision.new_device,
        first_device=decision.first_device,
    )
