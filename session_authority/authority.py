"""The use cases: the one place where store, tokens, clock and randomness meet.

Every use case reads, lets the domain decide, and commits the decision; if something changed
meanwhile, it decides again. Answers never wait for what may be lost: marks of use and last-seen
times are written in the background.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from uuid import UUID
from weakref import WeakValueDictionary

from cachetools import TTLCache

from session_authority.domain import pages
from session_authority.domain.answers import (
    ActiveSession,
    DevicePage,
    IssuedDevice,
    RenewedSession,
    SignInRequest,
    Validation,
)
from session_authority.domain.clients import Client
from session_authority.domain.devices import (
    DeviceRecord,
    ListedDevice,
    SignIn,
    decide_sign_in,
    list_devices,
    listed,
)
from session_authority.domain.errors import (
    Conflict,
    DeviceNotFound,
    FieldViolation,
    InvalidRequest,
    RequestIdReused,
    RequestIdSpent,
)
from session_authority.domain.events import NOBODY, Event, EventType
from session_authority.domain.identifiers import device_key, parse_uuid
from session_authority.domain.policy import LEEWAY, QUIET_EVENT_INTERVAL, Policy, ReplayAction
from session_authority.domain.sessions import (
    MAX_COPY,
    SESSION_ID_BYTES,
    SessionRecord,
    SessionStatus,
    Token,
    Verdict,
    copy_again,
    judge,
    mark,
    renew,
)
from session_authority.notes import Notes
from session_authority.runtime.metrics import Metrics
from session_authority.store import SessionStore
from session_authority.store.records import (
    Changed,
    Commit,
    Committed,
    IssuedRecord,
    Once,
    Stored,
    UserState,
)
from session_authority.tokens import Tokens, TokenTooLarge

_ATTEMPTS = 8
_MAX_TOLD = 16384


class Authority:
    """What the service can do. All times are aware and UTC, cut to milliseconds; `actor` names the
    calling service.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        tokens: Tokens,
        policy: Policy,
        metrics: Metrics,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._tokens = tokens
        self.policy = policy
        self._metrics = metrics
        self._clock = clock
        self._random_bytes = random_bytes
        self._user_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._notes = Notes(metrics)
        self._told_revoked: set[str] = set()
        self._told_vanished: set[str] = set()
        self._told: TTLCache[bytes, bool] = TTLCache(
            _MAX_TOLD, QUIET_EVENT_INTERVAL.total_seconds()
        )

    # --- signing in -------------------------------------------------------------------------------

    async def issue_device(self, request: SignInRequest, actor: str) -> IssuedDevice:
        """Signs a user in on a device. Raises DeviceLimitReached, RequestIdReused, RequestIdSpent,
        InvalidRequest.
        """
        device_id = request.device_id or self._new_uuid()
        session_id = self._random_bytes(SESSION_ID_BYTES)
        async with self._alone_with(request.user_id):
            for attempt in range(_ATTEMPTS):
                now = await self._start(attempt)
                state = await self._store.user(request.user_id, request.request_id)
                if state.issued is not None:
                    issued = await self._try_issue_again(request, state, state.issued, now)
                else:
                    issued = await self._try_issue(
                        request, device_id, session_id, state, actor, now
                    )
                if issued is not None:
                    return issued
        raise Conflict

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
            policy=self.policy,
            now=now,
        )
        # Signed before anything is written: a token that can't be made must leave no session
        # behind.
        access_token = self._sign(self._token_of(decision.session, request.user_id, key, request))
        committed = await self._store.commit(
            self._sign_in_commit(request, decision, state, key, device_id, actor, now)
        )
        if not isinstance(committed, Committed):
            return None
        return IssuedDevice(
            device=listed(key, decision.device, decision.session, self.policy, now),
            access_token=access_token,
            token_expires=_whole_second(decision.session.token_end),
            device_id_assigned=request.device_id is None,
            new_device=decision.new_device,
            evicted=self._evicted(decision.evicted, state, now),
        )

    def _sign_in_commit(
        self,
        request: SignInRequest,
        decision: SignIn,
        state: UserState,
        key: bytes,
        device_id: UUID,
        actor: str,
        now: datetime,
    ) -> Commit:
        signed_in = Event(
            EventType.DEVICE_SIGNED_IN,
            now,
            request.user_id,
            actor,
            device_id=device_id,
            device_display_name=decision.device.shown_name(),
            device_client=decision.device.last_client,
            client=request.client,
            session_id=decision.session.session_id,
            new_device=decision.new_device,
            first_device=decision.first_device,
        )
        once = None
        if request.request_id is not None:
            record = IssuedRecord(
                request_digest=request.digest(),
                session_id=decision.session.session_id,
                device_id=device_id,
                device_id_assigned=request.device_id is None,
                new_device=decision.new_device,
                evicted=decision.evicted,
            )
            once = self._store.once_for_request(request.user_id, request.request_id, record)
        gone = (*decision.ended, *decision.evicted)
        return Commit(
            request.user_id,
            now,
            if_sessions={key: state.sessions.get(key)} | {k: state.sessions[k] for k in gone},
            if_devices={key: state.devices.get(key)}
            | {k: state.devices[k] for k in decision.pruned},
            if_session_count=len(state.sessions),
            once=once,
            set_sessions={key: decision.session} | dict.fromkeys(gone),
            set_devices={key: decision.device} | dict.fromkeys(decision.pruned),
            events=(
                signed_in,
                *(
                    _about_device(
                        EventType.DEVICE_EVICTED,
                        now,
                        request.user_id,
                        actor,
                        state.devices.get(k),
                        state.sessions[k].record,
                    )
                    for k in decision.evicted
                ),
            ),
        )

    async def _try_issue_again(
        self, request: SignInRequest, state: UserState, issued: IssuedRecord, now: datetime
    ) -> IssuedDevice | None:
        """The answer to a request that was carried out before: another copy of the same token, if
        it was not yet used.
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
            or stored.record.first_seen is not None
            or not stored.record.is_live(self.policy, now)
        ):
            raise RequestIdSpent
        record = copy_again(stored.record, self.policy, now)
        access_token = self._sign(self._token_of(record, request.user_id, key, request))
        if record != stored.record:
            commit = Commit(
                request.user_id, now, if_sessions={key: stored}, set_sessions={key: record}
            )
            if not isinstance(await self._store.commit(commit), Committed):
                return None
        return IssuedDevice(
            device=listed(key, device.record, record, self.policy, now),
            access_token=access_token,
            token_expires=_whole_second(record.token_end),
            device_id_assigned=issued.device_id_assigned,
            new_device=issued.new_device,
            evicted=self._evicted(issued.evicted, state, now),
        )

    def _evicted(
        self, keys: tuple[bytes, ...], state: UserState, now: datetime
    ) -> tuple[ListedDevice, ...]:
        return tuple(
            listed(k, state.devices[k].record, None, self.policy, now)
            for k in keys
            if k in state.devices
        )

    # --- using a session --------------------------------------------------------------------------

    async def validate_session(
        self,
        access_token: str,
        device_id: str,
        client: Client,
        actor: str,
        *,
        observe_only: bool = False,
    ) -> Validation:
        """What a token is worth on a device, right now. With `observe_only` nothing is written,
        whatever it is.
        """
        presented = parse_uuid(device_id)
        answered = presented or self._new_uuid()
        validation = await self._validate(
            access_token, presented, answered, client, actor, observe_only
        )
        self._metrics.verdict(validation.status)
        return validation

    async def _validate(
        self,
        access_token: str,
        presented: UUID | None,
        answered: UUID,
        client: Client,
        actor: str,
        observe_only: bool,
    ) -> Validation:
        def refused(status: SessionStatus, revoked_devices: int = 0) -> Validation:
            return Validation(status, answered, presented is None, revoked_devices=revoked_devices)

        if not access_token:
            return refused(SessionStatus.TOKEN_MISSING)
        token = self._tokens.verify(access_token, self._clock())
        if token is None:
            return refused(SessionStatus.TOKEN_INVALID)
        if self._clock() >= token.expires + LEEWAY:
            return refused(SessionStatus.TOKEN_EXPIRED)
        if presented is None:
            return refused(SessionStatus.NO_SESSION)
        presented_key = device_key(presented)
        for attempt in range(_ATTEMPTS):
            now = await self._start(attempt)
            stored = await self._store.session(token.user_id, token.device_key)
            verdict = judge(_record(stored), token, presented_key, self.policy, now)
            if verdict.status is SessionStatus.ACTIVE and stored is not None:
                used = mark(verdict.forwarded or stored.record, token, self.policy, now)
                if not observe_only:
                    if verdict.forwarded is None:
                        self._note_use(token, stored, used, client, now)
                    elif not await self._forward(token, stored, used, now):
                        continue
                return Validation(
                    SessionStatus.ACTIVE,
                    presented,
                    False,
                    session=ActiveSession(token, presented, used.expires(self.policy)),
                    renew_recommended=verdict.renew_recommended,
                )
            if observe_only:
                return refused(verdict.status)
            revoked = await self._act_on(verdict, token, stored, client, actor, now)
            if revoked is not None:
                return refused(verdict.status, revoked)
        raise Conflict

    async def renew_session(
        self, access_token: str, device_id: str, client: Client, actor: str
    ) -> RenewedSession:
        """Swaps the current token for the next one, or hands out another copy where the last answer
        may have been lost.
        """
        renewed = await self._renew(access_token, parse_uuid(device_id), client, actor)
        self._metrics.verdict(renewed.status)
        return renewed

    async def _renew(
        self, access_token: str, presented: UUID | None, client: Client, actor: str
    ) -> RenewedSession:
        if not access_token:
            return RenewedSession(SessionStatus.TOKEN_MISSING)
        token = self._tokens.verify(access_token, self._clock())
        if token is None:
            return RenewedSession(SessionStatus.TOKEN_INVALID)
        if presented is None:
            return RenewedSession(SessionStatus.NO_SESSION)
        presented_key = device_key(presented)
        async with self._alone_with(token.user_id):
            for attempt in range(_ATTEMPTS):
                now = await self._start(attempt)
                stored, device = await self._store.session_and_device(
                    token.user_id, token.device_key
                )
                renewal = renew(_record(stored), token, presented_key, self.policy, now)
                if renewal.record is None or stored is None:
                    revoked = await self._act_on(renewal.verdict, token, stored, client, actor, now)
                    if revoked is None:
                        continue
                    return RenewedSession(renewal.verdict.status, revoked_devices=revoked)
                if not renewal.hand_out:
                    if renewal.verdict.forwarded is None:
                        self._note_use(token, stored, renewal.record, client, now)
                    elif not await self._forward(token, stored, renewal.record, now):
                        continue
                    session = ActiveSession(token, presented, renewal.record.expires(self.policy))
                    return RenewedSession(SessionStatus.ACTIVE, session)
                successor = self._next_token(token, renewal.record)
                signed = self._sign(successor)
                if not await self._commit_use(token, stored, renewal.record, device, client, now):
                    continue
                if renewal.verdict.forwarded is not None:
                    self._metrics.forwards.inc()
                session = ActiveSession(successor, presented, renewal.record.expires(self.policy))
                return RenewedSession(SessionStatus.ACTIVE, session, signed)
        raise Conflict

    async def _act_on(
        self,
        verdict: Verdict,
        token: Token,
        stored: Stored[SessionRecord] | None,
        client: Client,
        actor: str,
        now: datetime,
    ) -> int | None:
        """Does what a refusal asks for; how many devices that signed out, or None if it must be
        judged again.
        """
        if stored is None:
            return 0
        if verdict.status is SessionStatus.REPLAYED:
            return await self._raise_alarm(verdict, token, stored, client, actor, now)
        if verdict.status is SessionStatus.SESSION_ENDED:
            await self._tell_of_ended_token(token, client, actor, now)
        elif verdict.status is SessionStatus.SESSION_EXPIRED:
            self._drop_ended(token.user_id, {token.device_key: stored}, now)
        return 0

    async def _raise_alarm(
        self,
        verdict: Verdict,
        token: Token,
        stored: Stored[SessionRecord],
        client: Client,
        actor: str,
        now: datetime,
    ) -> int | None:
        action = self.policy.replay_action
        if action is ReplayAction.DENY and token.session_id in self._told:
            return 0
        device = await self._store.device(token.user_id, token.device_key)
        event = replace(
            _about_device(
                EventType.SESSION_REPLAYED, now, token.user_id, actor, device, stored.record
            ),
            client=client,
            replay_cause=verdict.cause,
            replay_action=action,
        )
        commit = Commit(token.user_id, now, if_sessions={token.device_key: stored}, events=(event,))
        if action is ReplayAction.REVOKE_ALL:
            commit = replace(commit, clear_sessions=True)
        elif action is ReplayAction.REVOKE_DEVICE:
            commit = replace(commit, set_sessions={token.device_key: None})
        else:
            commit = replace(
                commit, once=self._store.once_for_session(token.user_id, token.session_id)
            )
        result = await self._store.commit(commit)
        if isinstance(result, Changed):
            return None
        if action is ReplayAction.DENY:
            self._told[token.session_id] = True
        if isinstance(result, Committed):
            if verdict.cause is not None:
                self._metrics.replay(verdict.cause)
            return self._count_live(result.removed, now)
        return 0

    async def _tell_of_ended_token(
        self, token: Token, client: Client, actor: str, now: datetime
    ) -> None:
        """Leaves at most one event an hour: whoever keeps presenting a dead token must not flood
        anyone.
        """
        if token.session_id in self._told:
            return
        device = await self._store.device(token.user_id, token.device_key)
        event = replace(
            _about_device(EventType.ENDED_TOKEN_PRESENTED, now, token.user_id, actor, device, None),
            client=client,
            session_id=token.session_id,
        )
        once = self._store.once_for_session(token.user_id, token.session_id)
        await self._store.commit(Commit(token.user_id, now, once=once, events=(event,)))
        self._told[token.session_id] = True

    async def _forward(
        self, token: Token, stored: Stored[SessionRecord], record: SessionRecord, now: datetime
    ) -> bool:
        """Moves a record to where a token proves that it was before the store lost writes."""
        commit = Commit(
            token.user_id,
            now,
            if_sessions={token.device_key: stored},
            set_sessions={token.device_key: record},
        )
        if not isinstance(await self._store.commit(commit), Committed):
            return False
        self._metrics.forwards.inc()
        return True

    # --- noting use, in the background ------------------------------------------------------------

    def _note_use(
        self,
        token: Token,
        stored: Stored[SessionRecord],
        used: SessionRecord,
        client: Client,
        now: datetime,
    ) -> None:
        """Writes what a good token proved, if it proved anything new. May be lost."""
        if used != stored.record:
            self._notes.write(
                (token.user_id, token.device_key),
                lambda: self._write_use(token, stored, used, client, now),
            )

    async def _write_use(
        self,
        token: Token,
        stored: Stored[SessionRecord],
        used: SessionRecord,
        client: Client,
        now: datetime,
    ) -> None:
        device = None
        if used.last_seen != stored.record.last_seen:
            device = await self._store.device(token.user_id, token.device_key)
        await self._commit_use(token, stored, used, device, client, now)

    async def _commit_use(
        self,
        token: Token,
        stored: Stored[SessionRecord],
        used: SessionRecord,
        device: Stored[DeviceRecord] | None,
        client: Client,
        now: datetime,
    ) -> bool:
        """Commits a session's new record and, at most once per touch interval, its device's;
        whether that took place.
        """
        if used == stored.record:
            return True
        commit = Commit(
            token.user_id,
            now,
            if_sessions={token.device_key: stored},
            set_sessions={token.device_key: used},
        )
        if device is not None and now - device.record.last_seen >= self.policy.touch_interval:
            commit = replace(
                commit,
                if_devices={token.device_key: device},
                set_devices={token.device_key: device.record.touched(client, now)},
            )
        return isinstance(await self._store.commit(commit), Committed)

    def _drop_ended(
        self, user_id: str, ended: Mapping[bytes, Stored[SessionRecord]], now: datetime
    ) -> None:
        """Removes records of sessions that reached their end."""
        if ended:
            commit = Commit(user_id, now, if_sessions=ended, set_sessions=dict.fromkeys(ended))
            self._notes.write((user_id, min(ended)), lambda: self._commit_quietly(commit))

    async def _commit_quietly(self, commit: Commit) -> None:
        await self._store.commit(commit)

    async def settled(self) -> None:
        """Waits until everything noted so far is written, or dropped."""
        await self._notes.settled()

    # --- devices ----------------------------------------------------------------------------------

    async def list_devices(
        self,
        user_id: str,
        *,
        current_device_id: UUID | None,
        include_signed_out: bool,
        page_size: int,
        page_token: str,
    ) -> DevicePage:
        """A page of a user's devices, the newest activity first. Raises InvalidRequest for a page
        token of another list.
        """
        scope = pages.list_scope(user_id, include_signed_out)
        after = None
        if page_token:
            after = pages.parse_page_token(page_token, scope)
            if after is None:
                rule = "must be the next_page_token of a page of the same list"
                raise InvalidRequest([FieldViolation("page_token", rule)])
        now = self._clock()
        state = await self._store.user(user_id)
        self._drop_ended(
            user_id,
            {k: s for k, s in state.sessions.items() if not s.record.is_live(self.policy, now)},
            now,
        )
        everything = list_devices(
            sessions=state.session_records(),
            devices=state.device_records(),
            current_key=None if current_device_id is None else device_key(current_device_id),
            include_signed_out=include_signed_out,
            policy=self.policy,
            now=now,
        )
        rest = [d for d in everything if after is None or d.place() > after]
        page = tuple(rest[:page_size])
        more = pages.page_token(page[-1], scope) if len(rest) > len(page) else ""
        return DevicePage(page, more, len(everything))

    async def update_device(self, user_id: str, device_id: UUID, display_name: str) -> ListedDevice:
        """Gives a device a name, or takes it away. Raises DeviceNotFound."""
        key = device_key(device_id)
        async with self._alone_with(user_id):
            for attempt in range(_ATTEMPTS):
                now = await self._start(attempt)
                session, device = await self._store.session_and_device(user_id, key)
                if device is None:
                    raise DeviceNotFound
                named = replace(device.record, display_name=display_name)
                commit = Commit(user_id, now, if_devices={key: device}, set_devices={key: named})
                if isinstance(await self._store.commit(commit), Committed):
                    return listed(key, named, _record(session), self.policy, now)
        raise Conflict

    async def revoke_device(
        self, user_id: str, device_id: UUID, *, reason: str, forget: bool, actor: str
    ) -> bool:
        """Signs a user out on a device; whether they were signed in there."""
        key, now = device_key(device_id), self._clock()
        session, device = await self._store.session_and_device(user_id, key)
        event = _about_device(
            EventType.DEVICE_REVOKED, now, user_id, actor, device, _record(session)
        )
        event = replace(event, device_id=device_id, reason=reason)
        removed = await self._store.revoke_device(user_id, key, forget=forget, event=event)
        return self._count_live(removed, now) > 0

    async def revoke_all(
        self, user_id: str, *, except_device_id: UUID | None, reason: str, forget: bool, actor: str
    ) -> int:
        """Signs a user out on all devices but one, if that is named; on how many they were signed
        in.
        """
        now = self._clock()
        event = Event(
            EventType.ALL_REVOKED,
            now,
            user_id,
            actor,
            reason=reason,
            except_device_id=except_device_id,
        )
        except_key = None if except_device_id is None else device_key(except_device_id)
        removed = await self._store.revoke_all(
            user_id, except_key=except_key, forget=forget, event=event
        )
        return self._count_live(removed, now)

    async def tell_of_revoked_keys(self) -> None:
        """Leaves one event for each revoked key, however many processes find it: what it signed may
        be cached.

        A key that is removed early counts as revoked: nobody may have seen that it was, and its
        tokens are as void.
        """
        now = self._clock()
        revoked, vanished = self._tokens.void_keys(now)
        self._told_vanished &= vanished  # one that came back may vanish again
        for kid in revoked - self._told_revoked:
            await self._tell_of_key(kid, self._store.once_for_key(kid), now)
            self._told_revoked.add(kid)
        for kid in vanished - self._told_vanished:
            await self._tell_of_key(kid, self._store.once_for_removed_key(kid), now)
            self._told_vanished.add(kid)

    async def _tell_of_key(self, kid: str, once: Once, now: datetime) -> None:
        event = Event(EventType.SIGNING_KEY_REVOKED, now, user_id=NOBODY, actor="", key_id=kid)
        await self._store.commit(Commit(NOBODY, now, once=once, events=(event,)))

    def signing_keys(self) -> list[dict[str, str]]:
        """The public keys, as JWKs."""
        return self._tokens.public_jwks()

    # --- shared -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone_with(self, user_id: str) -> AsyncIterator[None]:
        """Lets one mutation of a user at a time run in this process, so that they need not be
        decided again.

        Correctness does not rest on it: other processes take no part.
        """
        lock = self._user_locks.setdefault(user_id, asyncio.Lock())
        async with lock:
            yield

    async def _start(self, attempt: int) -> datetime:
        """The time at which an attempt to decide and commit begins; later attempts wait a little,
        to get out of step.
        """
        if attempt:
            self._metrics.conflicts.inc()
            await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))  # noqa: S311 - spreads rivals, hides nothing
        return self._clock()

    def _token_of(
        self, record: SessionRecord, user_id: str, key: bytes, request: SignInRequest
    ) -> Token:
        return Token(
            user_id=user_id,
            device_key=key,
            session_id=record.session_id,
            generation=record.generation,
            copy=self._new_copy(),
            issued=_whole_second(record.dated),
            expires=_whole_second(record.token_end),
            sign_in=record.sign_in,
            claims=request.claims,
            auth_methods=request.auth_methods,
        )

    def _next_token(self, token: Token, record: SessionRecord) -> Token:
        """A copy of the record's generation for whoever presented `token`."""
        return replace(
            token,
            generation=record.generation,
            copy=self._new_copy(),
            issued=_whole_second(record.dated),
            expires=_whole_second(record.token_end),
        )

    def _sign(self, token: Token) -> str:
        try:
            return self._tokens.sign(token)
        except TokenTooLarge as error:
            raise InvalidRequest([FieldViolation("claims", str(error))]) from None

    def _new_copy(self) -> int:
        while True:
            copy = int.from_bytes(self._random_bytes(2))
            if copy:  # 0 stands for "any"
                return copy & MAX_COPY

    def _new_uuid(self) -> UUID:
        return UUID(bytes=self._random_bytes(16), version=4)

    def _count_live(self, sessions: Iterable[SessionRecord], now: datetime) -> int:
        return sum(session.is_live(self.policy, now) for session in sessions)


def _whole_second(moment: datetime) -> datetime:
    """As a token tells it."""
    return moment.replace(microsecond=0)


def _record(stored: Stored[SessionRecord] | None) -> SessionRecord | None:
    return None if stored is None else stored.record


def _about_device(
    kind: EventType,
    now: datetime,
    user_id: str,
    actor: str,
    device: Stored[DeviceRecord] | None,
    session: SessionRecord | None,
) -> Event:
    """An event on a device, with all that is remembered of it."""
    event = Event(
        kind, now, user_id, actor, session_id=None if session is None else session.session_id
    )
    if device is None:
        return event
    return replace(
        event,
        device_id=device.record.device_id,
        device_display_name=device.record.shown_name(),
        device_client=device.record.last_client,
    )
