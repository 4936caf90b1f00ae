"""Implements the methods of the contract for the fake service, with a state in memory."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc

from session_authority_client._testing.fields import of_batch, of_claims, of_sign_in
from session_authority_client._testing.messages import (
    abort,
    check_fields,
    checked_session,
    device_message,
    event_message,
    is_wanted,
    prove,
    refuse,
    session_message,
    stamp,
    what_is_asked,
)
from session_authority_client._testing.rules import (
    GRACE,
    SESSION_TTL,
    broken_fields,
    cleaned,
    judge,
    mark_seen,
    replay_cause,
    rotate_if_due,
    shown_client,
    uuid_of,
)
from session_authority_client._testing.state import (
    Device,
    Session,
    SignIn,
    State,
    Token,
)
from session_authority_client.wire import session_authority_pb2 as pb

_PROOF_OF_LIFE_SECONDS = 1.0
_PAGE_SIZE = 50


@dataclass(frozen=True)
class _Judged:
    """Holds the verdict on a token. `token` is None if the token is not valid. `revoked_devices` is
    the number of devices on which an alarm ended sessions.

    `forgiven` is True if the token is superseded and raised no alarm, but would raise an alarm in a
    renewal.
    """

    status: pb.SessionStatus
    token: Token | None
    revoked_devices: int = 0
    forgiven: bool = False


class FakeService:
    """Implements the fake service, with its own state. Hold the lock `changed` while you change the
    state or the counts.

    `calls` counts the calls of each method, including refused calls. `rotations` counts how often a
    session went on to its next generation.
    """

    def __init__(self, token_ttl: timedelta, *, alarm_on_renewal: bool = False) -> None:
        self.token_ttl = token_ttl
        self.alarm_on_renewal = alarm_on_renewal
        self.state = State()
        self.changed = threading.Condition()
        self.away = False
        self.delay = timedelta()
        self.max_devices: int | None = None
        # If `replicas_confirm` is None, the fake service waits for no replicas.
        self.replicas_confirm: bool | None = None
        self.calls: Counter[str] = Counter()
        self.rotations = 0

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Returns a gRPC handler for each method of the contract."""
        unary: Mapping[str, Callable[..., Any]] = {
            "IssueDevice": self.issue_device,
            "RenewSession": self.renew_session,
            "UpdateSession": self.update_session,
            "ValidateSession": self.validate_session,
            "BatchValidateSessions": self.batch_validate_sessions,
            "CheckSessions": self.check_sessions,
            "ListDevices": self.list_devices,
            "UpdateDevice": self.update_device,
            "RevokeDevice": self.revoke_device,
            "RevokeAll": self.revoke_all,
            "GetSigningKeys": self.get_signing_keys,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(name, answer),
                getattr(pb, f"{name}Request").FromString,
                getattr(pb, f"{name}Response").SerializeToString,
            )
            for name, answer in unary.items()
        }
        handlers["WatchEvents"] = grpc.unary_stream_rpc_method_handler(
            self.watch_events,
            pb.WatchEventsRequest.FromString,
            pb.WatchEventsResponse.SerializeToString,
        )
        return handlers

    def _guarded(self, name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(request: Any, context: grpc.ServicerContext) -> Any:
            if self.delay:
                time.sleep(self.delay.total_seconds())
            with self.changed:
                self.calls[name] += 1
                self.check_available(context)
                insists = getattr(request, "require_replicated", False)
                if insists and self.replicas_confirm is None:
                    rule = "this service waits for no replicas (its setting REPLICAS_ACK is 0)"
                    refuse(context, [("require_replicated", rule)])
                response = answer(request, context)
                self._tell_durability(response, context, insists=insists)
                return response

        return guarded

    def _tell_durability(
        self, response: Any, context: grpc.ServicerContext, *, insists: bool
    ) -> None:
        if "durability" not in response.DESCRIPTOR.fields_by_name:
            return
        if isinstance(response, pb.RenewSessionResponse) and not response.rotated:
            return
        if insists and not self.replicas_confirm:
            abort(context, grpc.StatusCode.UNAVAILABLE, "NOT_REPLICATED")
        response.durability = (
            pb.DURABILITY_REPLICATED if self.replicas_confirm else pb.DURABILITY_LOCAL
        )

    def check_available(self, context: grpc.ServicerContext) -> None:
        """Fails a call with UNAVAILABLE while `away` is True."""
        if self.away:
            abort(context, grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")

    # --- sessions ---------------------------------------------------------------------------------

    def issue_device(
        self, request: pb.IssueDeviceRequest, context: grpc.ServicerContext
    ) -> pb.IssueDeviceResponse:
        """Signs a user in."""
        refuse(context, of_sign_in(request))
        state, now = self.state, self.state.now()
        if known_sign_in := state.sign_ins.get(request.request_id):
            return self._issue_again(known_sign_in, request, context)
        presented = uuid_of(request.device_id)
        device_id = presented or str(uuid4())
        devices = state.devices.setdefault(request.user_id, {})
        self._check_limit(devices, device_id, context)
        known, first = device_id in devices, not devices
        seen = shown_client(request.client)
        device = devices.setdefault(device_id, Device(device_id, seen, now, now, now))
        ttl = request.session_ttl.ToTimedelta() if request.HasField("session_ttl") else SESSION_TTL
        device.client, device.signed_in_at, device.last_seen_at = seen, now, now
        device.session = Session(
            request.user_id,
            device_id,
            dict(request.claims),
            tuple(request.auth_methods),
            signed_in_at=now,
            ends_at=now + ttl,
            replaced=device.session if state.is_live(device) else None,
            idle_timeout=(
                request.idle_timeout.ToTimedelta() if request.HasField("idle_timeout") else None
            ),
        )
        text, token = state.hand_out(device.session, self.token_ttl)
        kind = pb.EVENT_TYPE_DEVICE_SIGNED_IN
        told = {"new_device": not known, "first_device": first}
        session_id = device.session.session_id
        self._write_event(kind, request.user_id, device, session_id=session_id, **told)
        response = pb.IssueDeviceResponse(
            device=device_message(state, device),
            access_token=text,
            token_expire_time=stamp(state.told(token.ends_at)),
            device_id_assigned=presented is None,
            new_device=not known,
        )
        if request.request_id:
            request_id = request.request_id
            state.sign_ins[request_id] = SignIn(what_is_asked(request), device.session, response)
        return response

    def _issue_again(
        self, known: SignIn, request: pb.IssueDeviceRequest, context: grpc.ServicerContext
    ) -> pb.IssueDeviceResponse:
        if known.request != what_is_asked(request):
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
        session = known.session
        device = self.state.devices[session.user_id].get(session.device_id)
        unused = session.first_seen_at is None and session.generation == 1
        if device is None or device.session is not session or not unused:
            abort(context, grpc.StatusCode.ABORTED, "REQUEST_ID_SPENT")
        return known.response

    def _check_limit(
        self, devices: Mapping[str, Device], device_id: str, context: grpc.ServicerContext
    ) -> None:
        others = [device for device in devices.values() if device.device_id != device_id]
        live = sum(map(self.state.is_live, others))
        if self.max_devices is not None and live >= self.max_devices:
            abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "DEVICE_LIMIT_REACHED")

    def renew_session(
        self, request: pb.RenewSessionRequest, _: grpc.ServicerContext
    ) -> pb.RenewSessionResponse:
        """Replaces a token by the session's next token, if a new token is due. If no new token is
        due, but the session has new claims, makes the same token again with the new claims.
        """
        judged = self._judge(request.access_token, request.device_id, renewing=True)
        token = judged.token
        response = pb.RenewSessionResponse(
            status=judged.status, revoked_devices=judged.revoked_devices
        )
        if token is None:
            return response
        session, now = token.session, self.state.now()
        if not request.passive:
            session.last_seen_at = now
        if token.generation == session.generation:
            mark_seen(token, now, settles=True)
            self.rotations += rotate_if_due(token, now)
        if token.generation < session.generation and session.first_seen_at is None:
            if now - session.renewed_at > GRACE:
                session.renewed_at = now
            response.access_token, token = self.state.hand_out(session, self.token_ttl)
            response.token_expire_time.CopyFrom(stamp(self.state.told(token.ends_at)))
            response.rotated = True
        elif token.generation == session.generation and token.claims == session.claims:
            session.has_newer_claims = False
        elif token.generation == session.generation and now < token.ends_at:
            response.access_token, token = self.state.reissue(token)
            response.token_expire_time.CopyFrom(stamp(self.state.told(token.ends_at)))
            response.rotated = True
        response.session.CopyFrom(session_message(self.state, token))
        return response

    def update_session(
        self, request: pb.UpdateSessionRequest, context: grpc.ServicerContext
    ) -> pb.UpdateSessionResponse:
        """Changes the claims of a user's sessions, on one device or on all devices."""
        user_id, device_id = request.user_id, uuid_of(request.device_id)
        named = {"device_id": request.device_id} if request.device_id else {}
        refuse(context, broken_fields({"user_id": user_id, **named}) + of_claims(request.claims))
        live = [
            device
            for device in self.state.devices.get(user_id, {}).values()
            if device_id in (None, device.device_id) and self.state.is_live(device)
        ]
        if named and not live:
            abort(context, grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
        claims = dict(request.claims)
        sessions = [device.session for device in live if device.session is not None]
        changed = [session for session in sessions if session.updated_claims != claims]
        for session in changed:
            session.claims = session.updated_claims = claims
            session.has_newer_claims = True
        if changed:
            told = {"session_id": sessions[0].session_id} if named else {}
            device = live[0] if named else None
            self._write_event(pb.EVENT_TYPE_SESSION_UPDATED, user_id, device, **told)
        return pb.UpdateSessionResponse(updated_sessions=len(live))

    def validate_session(
        self, request: pb.ValidateSessionRequest, _: grpc.ServicerContext
    ) -> pb.ValidateSessionResponse:
        """Returns the verdict on a token."""
        judged = self._judge(
            request.access_token, request.device_id, observe_only=request.observe_only
        )
        token = judged.token
        presented = uuid_of(request.device_id)
        response = pb.ValidateSessionResponse(
            active=token is not None,
            status=judged.status,
            device_id=presented or self._assigned_id(),
            device_id_assigned=presented is None,
            renew_recommended=judged.forgiven,
            revoked_devices=judged.revoked_devices,
        )
        if token is not None:
            session, now = token.session, self.state.now()
            superseded = token.generation < session.generation
            half_life = (token.ends_at - token.issued_at) / 2
            response.renew_recommended = (
                token.aged
                or token.ends_at - now < half_life
                or superseded
                or session.has_newer_claims
            )
            if not request.observe_only:
                if not request.passive:
                    device = self.state.devices[session.user_id][session.device_id]
                    device.last_seen_at = session.last_seen_at = now
                if not superseded:
                    mark_seen(token, now, settles=not self.alarm_on_renewal)
            response.session.CopyFrom(session_message(self.state, token))
        return response

    def _assigned_id(self) -> str:
        """Makes a device ID for a request that has no device ID, and notes that the service
        assigned this device ID.
        """
        device_id = str(uuid4())
        self.state.assigned.add(device_id)
        return device_id

    def batch_validate_sessions(
        self, request: pb.BatchValidateSessionsRequest, context: grpc.ServicerContext
    ) -> pb.BatchValidateSessionsResponse:
        """Returns the verdicts on many tokens."""
        refuse(context, of_batch(len(request.requests), "requests"))
        results = [
            pb.BatchValidateSessionsResult(response=self.validate_session(one, context))
            for one in request.requests
        ]
        return pb.BatchValidateSessionsResponse(results=results)

    def check_sessions(
        self, request: pb.CheckSessionsRequest, context: grpc.ServicerContext
    ) -> pb.CheckSessionsResponse:
        """Returns the state of each session that the request names."""
        refuse(context, of_batch(len(request.sessions), "sessions"))
        results = [checked_session(self.state, name) for name in request.sessions]
        return pb.CheckSessionsResponse(results=results)

    def _judge(
        self, text: str, device_id: str, *, renewing: bool = False, observe_only: bool = False
    ) -> _Judged:
        state = self.state
        status, token = judge(state, text, device_id, renewing=renewing, observe_only=observe_only)
        if status != pb.SESSION_STATUS_REPLAYED:
            return _Judged(status, token)
        session = state.tokens[text].session
        if self.alarm_on_renewal and not renewing and uuid_of(device_id) == session.device_id:
            if not observe_only:
                self._tell_of_superseded(session)
            return _Judged(pb.SESSION_STATUS_SUPERSEDED, None, forgiven=True)
        if observe_only:
            return _Judged(status, None)
        device = state.devices[session.user_id][session.device_id]
        cause = replay_cause(state, state.tokens[text], uuid_of(device_id))
        device.last_alarm = state.now(), cause
        revoked = state.end_sessions(session.user_id)
        told = {"session_id": session.session_id, "replay_cause": cause}
        self._write_event(pb.EVENT_TYPE_SESSION_REPLAYED, session.user_id, device, **told)
        return _Judged(status, None, revoked)

    def _tell_of_superseded(self, session: Session) -> None:
        """Writes an event about a superseded token, at most one event an hour for each session."""
        now = self.state.now()
        if session.told_at is None or now - session.told_at >= timedelta(hours=1):
            session.told_at = now
            device = self.state.devices[session.user_id][session.device_id]
            kind = pb.EVENT_TYPE_SUPERSEDED_TOKEN_PRESENTED
            self._write_event(kind, session.user_id, device)

    # --- devices ----------------------------------------------------------------------------------

    def list_devices(
        self, request: pb.ListDevicesRequest, context: grpc.ServicerContext
    ) -> pb.ListDevicesResponse:
        """Returns a page of a user's devices."""
        check_fields(context, user_id=request.user_id)
        state = self.state
        devices = sorted(
            state.devices.get(request.user_id, {}).values(),
            key=lambda device: device.last_seen_at,
            reverse=True,
        )
        listed = [
            device for device in devices if state.is_live(device) or request.include_signed_out
        ]
        start, size = int(request.page_token or 0), request.page_size or _PAGE_SIZE
        end = start + size
        current = uuid_of(request.current_device_id) or ""
        return pb.ListDevicesResponse(
            devices=[device_message(state, device, current) for device in listed[start:end]],
            next_page_token=str(end) if end < len(listed) else "",
            total_size=len(listed),
        )

    def update_device(
        self, request: pb.UpdateDeviceRequest, context: grpc.ServicerContext
    ) -> pb.UpdateDeviceResponse:
        """Changes the display name of a device."""
        name, user_id = request.display_name, request.user_id
        check_fields(context, user_id=user_id, device_id=request.device_id, display_name=name)
        device = self.state.devices.get(user_id, {}).get(uuid_of(request.device_id) or "")
        if device is None:
            abort(context, grpc.StatusCode.NOT_FOUND, "DEVICE_NOT_FOUND")
        device.display_name = cleaned(name)
        return pb.UpdateDeviceResponse(device=device_message(self.state, device))

    def revoke_device(
        self, request: pb.RevokeDeviceRequest, context: grpc.ServicerContext
    ) -> pb.RevokeDeviceResponse:
        """Signs a user out on a device."""
        check_fields(context, user_id=request.user_id, device_id=request.device_id)
        devices = self.state.devices.get(request.user_id, {})
        device = devices.get(uuid_of(request.device_id) or "")
        if device is None:
            return pb.RevokeDeviceResponse()
        ended, revoked = device.session, self.state.is_live(device)
        device.session = None
        if revoked and ended is not None:
            told = {"reason": request.reason, "session_id": ended.session_id}
            self._write_event(pb.EVENT_TYPE_DEVICE_REVOKED, request.user_id, device, **told)
        if request.forget:
            del devices[device.device_id]
        return pb.RevokeDeviceResponse(revoked=revoked)

    def revoke_all(
        self, request: pb.RevokeAllRequest, context: grpc.ServicerContext
    ) -> pb.RevokeAllResponse:
        """Signs a user out on all devices, or on all devices except the device that the request
        names.
        """
        check_fields(context, user_id=request.user_id)
        user_id, spared = request.user_id, uuid_of(request.except_device_id) or ""
        revoked = self.state.end_sessions(user_id, spared)
        if revoked:
            told = {"reason": request.reason, "except_device_id": spared}
            self._write_event(pb.EVENT_TYPE_ALL_REVOKED, user_id, None, **told)
        if request.forget:
            devices = self.state.devices.get(user_id, {})
            for device_id in devices.keys() - {spared}:
                del devices[device_id]
        return pb.RevokeAllResponse(revoked_devices=revoked)

    # --- keys and events --------------------------------------------------------------------------

    def get_signing_keys(
        self, _: pb.GetSigningKeysRequest, __: grpc.ServicerContext
    ) -> pb.GetSigningKeysResponse:
        """Returns an empty key set, because the fake service has no keys."""
        return pb.GetSigningKeysResponse(jwks_json='{"keys":[]}')

    def watch_events(
        self, request: pb.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchEventsResponse]:
        """Yields the messages of a watch. A request with a cursor gets the events after the cursor.
        A request with a start time gets the events since this time. A request without a cursor and
        a start time gets only new events. After the first message, messages without events are
        proofs.
        """
        with self.changed:
            self.calls["WatchEvents"] += 1
            self.check_available(context)
            state, start = self.state, len(self.state.events)
            if request.cursor:
                if not request.cursor.isdecimal() or int(request.cursor) > start:
                    abort(context, grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
                start = int(request.cursor)
            elif request.HasField("start_time"):
                since = request.start_time.ToNanoseconds()
                start = sum(event.create_time.ToNanoseconds() < since for event in state.events)
            context.add_callback(self._wake)
        first = pb.WatchEventsResponse(cursor=str(start))
        if not request.cursor and not request.HasField("start_time"):
            prove(first, state)
        yield first
        while context.is_active():
            with self.changed:
                if self.state is state and len(state.events) == start:
                    self.changed.wait(_PROOF_OF_LIFE_SECONDS)
                self.check_available(context)
                if self.state is not state:
                    abort(context, grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
                found, start = state.events[start:], len(state.events)
            told = [event for event in found if is_wanted(event, request)]
            message = pb.WatchEventsResponse(events=told, cursor=str(start))
            if not told:
                prove(message, state)
            yield message

    def _write_event(
        self, kind: pb.EventType, user_id: str, device: Device | None, **more: Any
    ) -> None:
        self.state.events.append(event_message(self.state, kind, user_id, device, **more))
        self.changed.notify_all()

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()
