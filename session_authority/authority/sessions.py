"""Validates and renews sessions. This module judges the presented token, hands out renewed tokens,
and raises alarms and writes quiet events about denied tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from cachetools import TTLCache

from session_authority.authority.device_events import device_event
from session_authority.authority.resources import Resources
from session_authority.domain.assigned_ids import is_assigned
from session_authority.domain.devices import Alarm, DeviceRecord
from session_authority.domain.events import EventType
from session_authority.domain.identifiers import device_key
from session_authority.domain.moments import whole_second
from session_authority.domain.renewals import mark, renew
from session_authority.domain.requests import Presented
from session_authority.domain.results import ActiveSession, RenewedSession, Validation
from session_authority.domain.session_claims import SessionClaims
from session_authority.domain.session_limits import LEEWAY, QUIET_EVENT_INTERVAL, ReplayAction
from session_authority.domain.sessions import SessionRecord, Token
from session_authority.domain.steady_verdicts import Steadiness, steadiness
from session_authority.domain.verdicts import ReplayCause, SessionStatus, Verdict, judge
from session_authority.store.records import Changed, Commit, Committed, Stored

# The largest number of quiet events that this process remembers, so that it does not write them
# again within an hour. With `REPLAY_ACTION=deny`, alarms are remembered in the same way.
_MAX_QUIET_SESSIONS = 16384


@dataclass(frozen=True, slots=True)
class _Judged:
    """One attempt to judge a presented token: the token, the stored session, and the time.

    `stored` is None if the store has no session. `claims` has the claims that the store has for the
    session. `claims` is None if the store has no claims, and in every validation, because a
    validation does not read the claims.
    """

    presented: Presented
    token: Token
    stored: Stored[SessionRecord] | None
    now: datetime
    claims: Stored[SessionClaims] | None = None

    @property
    def record(self) -> SessionRecord | None:
        """The record of the session. None if the store has no session."""
        return None if self.stored is None else self.stored.record

    @property
    def claims_now(self) -> Mapping[str, str]:
        """The claims for a token of this session that is signed now."""
        return self.token.claims if self.claims is None else self.claims.record.claims

    def commit_of(
        self,
        record: SessionRecord | None,
        device: Stored[DeviceRecord] | None = None,
        touched: DeviceRecord | None = None,
        *,
        durable: bool = True,
    ) -> Commit:
        """Makes the commit that replaces the session record that was read.

        Args:
            record: The new record of the session. None removes the record.
            device: The device's record that was read. None if the commit does not replace this
                record.
            touched: The new record of the device. None if the commit does not replace the record.
            durable: True if the commit must survive a failover, so that the commit waits for
                replicas.
        """
        key = self.token.device_key
        return Commit(
            self.token.user_id,
            self.now,
            if_sessions={key: self.stored},
            if_devices={} if device is None else {key: device},
            if_claims={} if self.claims is None else {key: self.claims},
            set_sessions={key: record},
            set_devices={} if device is None else {key: touched},
            durable=durable,
        )


class Sessions:
    """Carries out ValidateSession and RenewSession."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._store = resources.store
        self._limits = resources.limits
        self._metrics = resources.metrics
        self._quiet: TTLCache[tuple[EventType, bytes], bool] = TTLCache(
            _MAX_QUIET_SESSIONS, QUIET_EVENT_INTERVAL.total_seconds()
        )

    async def validate_session(
        self, presented: Presented, *, observe_only: bool = False
    ) -> Validation:
        """Decides what a presented token is worth now, together with the device ID that came with
        the token. Writes nothing if `observe_only` is true. Raises Conflict if other requests
        change the same records at each attempt.
        """
        validation = await self._validate(presented, observe_only)
        self._metrics.verdict(validation.status)
        return validation

    async def renew_session(self, presented: Presented) -> RenewedSession:
        """Renews a session. If the current generation is old enough, the client gets a token of the
        next generation. If the last reply may have been lost, the client gets another copy of the
        token in that reply. In all other cases the client keeps its token, or gets the same token
        with newer claims. Raises Conflict if other requests change the same records at each
        attempt.
        """
        renewed = await self._renew(presented)
        self._metrics.renewed(renewed.status)
        return renewed

    async def _validate(self, presented: Presented, observe_only: bool) -> Validation:
        token, device_id = self._token_of(presented), presented.device_id
        if isinstance(token, SessionStatus):
            return self._denied(token, device_id)
        if self._resources.clock() >= token.expires_at + LEEWAY:
            return self._denied(SessionStatus.TOKEN_EXPIRED, device_id)
        if device_id is None:
            return self._denied(SessionStatus.NO_SESSION, None)
        presented_key, assigned = _presented_as(device_id, token)
        attempts = self._resources.attempts()
        while True:
            now = await attempts.next()
            stored = await self._store.session(token.user_id, token.device_key)
            judged = _Judged(presented, token, stored, now)
            verdict = judge(
                judged.record, token, presented_key, self._limits, now, assigned=assigned
            )
            if verdict.status is SessionStatus.ACTIVE and stored is not None:
                used = mark(
                    verdict.forwarded or stored.record,
                    token,
                    self._limits,
                    now,
                    passive=presented.passive,
                )
                if not observe_only and not await self._record_use(judged, verdict, used):
                    continue
                return Validation(
                    SessionStatus.ACTIVE,
                    device_id,
                    False,
                    session=self._active(token, device_id, used),
                    renew_recommended=verdict.renew_recommended,
                    steadiness=self._steadiness(judged, used),
                )
            revoked = 0 if observe_only else await self._act_on(judged, verdict)
            if revoked is not None:
                return Validation(
                    verdict.status,
                    device_id,
                    False,
                    renew_recommended=verdict.renew_recommended,
                    revoked_devices=revoked,
                )

    def _steadiness(self, judged: _Judged, used: SessionRecord) -> Steadiness | None:
        """Computes how long the answer to an active token may be repeated. Returns None if the
        answer must not be repeated, because the use of the token changes the record of the session.
        """
        stored = judged.stored
        if stored is None or used is not stored.record:
            return None
        return steadiness(used, stored.raw, judged.token, self._limits, judged.now)

    def _denied(self, status: SessionStatus, device_id: UUID | None) -> Validation:
        """Returns the answer to a validation that is denied before a record is read. If the request
        has no device ID, the answer assigns a new device ID.
        """
        assigned = device_id is None
        return Validation(status, device_id or self._resources.assigned_id(), assigned)

    async def _renew(self, presented: Presented) -> RenewedSession:
        token = self._token_of(presented)
        if isinstance(token, SessionStatus):
            return RenewedSession(token)
        device_id = presented.device_id
        if device_id is None:
            return RenewedSession(SessionStatus.NO_SESSION)
        presented_key, assigned = _presented_as(device_id, token)
        async with self._resources.user_locks.of(token.user_id):
            attempts = self._resources.attempts()
            while True:
                now = await attempts.next()
                stored, device = await self._store.session_and_device(
                    token.user_id, token.device_key
                )
                claims = await self._store.claims_of(token.user_id, token.device_key, stored)
                judged = _Judged(presented, token, stored, now, claims)
                renewal = renew(
                    judged.record,
                    token,
                    presented_key,
                    self._limits,
                    now,
                    assigned=assigned,
                    passive=presented.passive,
                    claims=None if claims is None else claims.record.claims,
                )
                verdict, record = renewal.verdict, renewal.record
                if record is None or stored is None:
                    revoked = await self._act_on(judged, verdict)
                    if revoked is not None:
                        return RenewedSession(verdict.status, revoked_devices=revoked)
                elif not renewal.hand_out:
                    if await self._record_use(judged, verdict, record):
                        return self._kept(judged, device_id, record, renewal.reissue)
                else:
                    successor = self._successor_of(judged, record)
                    access_token = self._resources.sign(successor)
                    if await self._commit_use(judged, record, device, durable=True):
                        if verdict.forwarded is not None:
                            self._metrics.forwards.inc()
                        session = self._active(successor, device_id, record)
                        return RenewedSession(SessionStatus.ACTIVE, session, access_token)

    def _kept(
        self, judged: _Judged, device_id: UUID, record: SessionRecord, reissue: bool
    ) -> RenewedSession:
        """Returns the answer to a renewal after which the client keeps its token. If `reissue` is
        true, the token is signed once more, with the claims that the session has now.
        """
        token = replace(judged.token, claims=judged.claims_now) if reissue else judged.token
        session = self._active(token, device_id, record)
        text = self._resources.sign(token) if reissue else None
        return RenewedSession(SessionStatus.ACTIVE, session, text)

    def _active(self, token: Token, device_id: UUID, record: SessionRecord) -> ActiveSession:
        """Returns the active session of a token, with the ends that `record` gives it."""
        return ActiveSession(
            token, device_id, record.expires_at(self._limits), record.absolute_end(self._limits)
        )

    def _token_of(self, presented: Presented) -> Token | SessionStatus:
        """Returns the verified token, or the status TOKEN_MISSING or TOKEN_INVALID if there is no
        good token. Does not check whether the token has expired.
        """
        if not presented.access_token:
            return SessionStatus.TOKEN_MISSING
        token = self._resources.tokens.verify(presented.access_token, self._resources.clock())
        return SessionStatus.TOKEN_INVALID if token is None else token

    def _successor_of(self, judged: _Judged, record: SessionRecord) -> Token:
        """Makes the token that a renewal hands out: a new copy of the generation of `record`. The
        new copy is issued at the present time, even if the generation is older. So the age of the
        new copy shows how long its client can have kept it.
        """
        return replace(
            judged.token,
            generation=record.generation,
            copy=self._resources.new_copy(),
            issued_at=whole_second(judged.now),
            expires_at=whole_second(record.token_ends_at),
            claims=judged.claims_now,
        )

    async def _act_on(self, judged: _Judged, verdict: Verdict) -> int | None:
        """Does what the verdict on a denied token requires, such as an alarm. Returns the number of
        devices on which the alarm signed the user out. Returns None if a record has changed, so
        that the token must be judged again.
        """
        if judged.stored is None:
            return 0
        if verdict.status is SessionStatus.REPLAYED:
            return await self._raise_alarm(judged, verdict)
        if verdict.status is SessionStatus.SESSION_ENDED:
            await self._leave_quiet_event(judged, EventType.ENDED_TOKEN_PRESENTED, None)
        elif verdict.status is SessionStatus.SUPERSEDED and verdict.cause is not None:
            kind = EventType.SUPERSEDED_TOKEN_PRESENTED
            await self._leave_quiet_event(judged, kind, verdict.cause)
        elif verdict.status is SessionStatus.SESSION_EXPIRED:
            ended = {judged.token.device_key: judged.stored}
            self._resources.remove_ended(judged.token.user_id, ended, judged.now)
        return 0

    async def _raise_alarm(self, judged: _Judged, verdict: Verdict) -> int | None:
        token, action = judged.token, self._limits.replay_action
        kind = EventType.SESSION_REPLAYED
        if action is ReplayAction.DENY and (kind, token.session_id) in self._quiet:
            return 0
        device = await self._store.device(token.user_id, token.device_key)
        event = replace(
            device_event(
                kind,
                judged.now,
                token.user_id,
                judged.presented.actor,
                device,
                judged.record,
            ),
            client=self._resources.placed(judged.presented.client),
            replay_cause=verdict.cause,
            replay_action=action,
        )
        commit = Commit(
            token.user_id,
            judged.now,
            if_sessions={token.device_key: judged.stored},
            events=(event,),
        )
        if device is not None:  # the record of the device keeps the alarm, even after the sign-out
            alarmed = replace(device.record, last_alarm=Alarm(judged.now, verdict.cause))
            commit = replace(
                commit,
                if_devices={token.device_key: device},
                set_devices={token.device_key: alarmed},
            )
        if action is ReplayAction.REVOKE_ALL:
            commit = replace(commit, clear_sessions=True)
        elif action is ReplayAction.REVOKE_DEVICE:
            commit = replace(commit, set_sessions={token.device_key: None})
        else:
            once = self._store.once_for_session(token.user_id, token.session_id, kind)
            commit = replace(commit, once=once)
        result = await self._store.commit(commit)
        if isinstance(result, Changed):
            return None
        if action is ReplayAction.DENY:
            self._quiet[kind, token.session_id] = True
        if isinstance(result, Committed):
            self._resources.reassertions.note(token.user_id, result.removed, event)
            if verdict.cause is not None:
                self._metrics.replay(verdict.cause)
            if action is not ReplayAction.DENY:
                self._metrics.revoked("replay")
            return self._resources.count_live(result.removed, judged.now)
        return 0

    async def _leave_quiet_event(
        self, judged: _Judged, kind: EventType, cause: ReplayCause | None
    ) -> None:
        """Writes a quiet event about a denied token. A session gets at most one quiet event of each
        type in an hour. A client may present a denied token again and again, and this must not
        flood the services that watch events.
        """
        token = judged.token
        if (kind, token.session_id) in self._quiet:
            return
        device = await self._store.device(token.user_id, token.device_key)
        event = replace(
            device_event(kind, judged.now, token.user_id, judged.presented.actor, device, None),
            client=self._resources.placed(judged.presented.client),
            session_id=token.session_id,
            replay_cause=cause,
        )
        once = self._store.once_for_session(token.user_id, token.session_id, kind)
        commit = Commit(token.user_id, judged.now, once=once, events=(event,), durable=False)
        await self._store.commit(commit)
        self._quiet[kind, token.session_id] = True

    async def _record_use(self, judged: _Judged, verdict: Verdict, used: SessionRecord) -> bool:
        """Writes the new record of a session after the use of an active token. Returns False if the
        stored record has changed, so that the token must be judged again.

        New marks are written in the background, and may be lost. If the token proves that the store
        has lost writes, the new record is instead committed before the answer.
        """
        if verdict.forwarded is not None:
            if not isinstance(await self._store.commit(judged.commit_of(used)), Committed):
                return False
            self._metrics.forwards.inc()
        elif used != judged.record:
            token = judged.token
            self._resources.best_effort.write(
                token.user_id, token.device_key, lambda: self._write_use(judged, used)
            )
        return True

    async def _write_use(self, judged: _Judged, used: SessionRecord) -> None:
        device = None
        if judged.record is None or used.last_seen_at != judged.record.last_seen_at:
            device = await self._store.device(judged.token.user_id, judged.token.device_key)
        await self._commit_use(judged, used, device, durable=False)

    async def _commit_use(
        self,
        judged: _Judged,
        used: SessionRecord,
        device: Stored[DeviceRecord] | None,
        *,
        durable: bool,
    ) -> bool:
        """Commits the new record of a session. Also commits a new record of its device, if the
        request is not passive and the device was last seen at least one touch interval ago.

        If the record of the session stays the same, nothing is committed. If nothing is committed
        and `durable` is true, the method waits until replicas have the earlier writes.

        Returns False if a record in the store has changed since it was read.
        """
        if used == judged.record:
            if durable:
                await self._store.confirm(judged.token.user_id)
            return True
        touched: DeviceRecord | None = None
        if (
            device is not None
            and not judged.presented.passive
            and judged.now - device.record.last_seen_at >= self._limits.touch_interval
        ):
            client = self._resources.placed(judged.presented.client)
            touched = device.record.touched(client, judged.now)
        changed = None if touched is None else device
        commit = judged.commit_of(used, changed, touched, durable=durable)
        return isinstance(await self._store.commit(commit), Committed)


def _presented_as(device_id: UUID, token: Token) -> tuple[bytes, bool]:
    """Returns the key of the presented device ID. The second result is True if a validation
    assigned this device ID and it is not the token's own device ID.
    """
    key = device_key(device_id)
    return key, key != token.device_key and is_assigned(device_id)
