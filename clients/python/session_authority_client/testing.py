"""A Session Authority for the tests of apps: it listens on loopback and keeps everything in memory,
without Redis.

    with FakeAuthority() as authority, authority.client() as client:
        issued = client.issue_device("ada")
        authority.expire_tokens()
        assert client.renew_session(issued.access_token, issued.device.device_id).rotated

It speaks the whole contract, and gives the verdicts of the real one with its default settings: use
`pass_time` to see what becomes of a token after minutes or weeks. It knows less: tokens are no
JWTs, and there are no signing keys. Every caller may do everything. Of the fields of a request only
user IDs, device IDs and names are checked. Sessions have no idle end, only the absolute one. User
agents are not parsed. Nobody is told of an ended token. What must be sure of those is tested with
`session-authority dev`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, NoReturn, Self
from uuid import UUID, uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._shared.transport import DEFAULT_TIMEOUT, SERVICE
from session_authority_client._sync.client import SessionAuthority
from session_authority_client.wire import session_authority_pb2 as pb
from session_authority_client.wire import status_pb2

__all__ = ["FakeAuthority"]

# The defaults of the service.
_SESSION_TTL = timedelta(days=30)
_LEEWAY = _GRACE = timedelta(seconds=30)
_ALARM_AFTER = timedelta(minutes=5)
_LONGEST_USER_ID = 128
_LONGEST_DISPLAY_NAME = 100
# Invisible, but part of how Persian words and many emoji are written.
_JOINERS = dict.fromkeys((0x200C, 0x200D))
_PROOF_OF_LIFE = 1.0  # seconds
_PATIENCE = timedelta(seconds=30)  # of what tests ask: nothing of it is about time
_THREADS = 64
_PAGE_SIZE = 50
_DONT_SHARE_PORTS = (("grpc.so_reuseport", 0),)


@dataclass(eq=False)
class _Session:
    user_id: str
    device_id: str
    session_id: str
    claims: Mapping[str, str]
    auth_methods: tuple[str, ...]
    sign_in: datetime
    end: datetime
    dated: datetime
    replaced: _Session | None
    generation: int = 1
    first_seen: datetime | None = None
    holder: _Token | None = None
    predecessor: _Token | None = None


@dataclass(eq=False)
class _Token:
    """One that was handed out. Each is a copy of its own of its generation."""

    session: _Session
    generation: int
    issued: datetime
    end: datetime
    aged: bool = False
    expired: bool = False
    replayed: bool = False


@dataclass
class _Device:
    device_id: str
    client: pb.ClientInfo
    created: datetime
    sign_in: datetime
    last_seen: datetime
    display_name: str = ""
    session: _Session | None = None


@dataclass
class _Answered:
    """A sign-in that had a `request_id`."""

    request: pb.IssueDeviceRequest
    session: _Session
    response: pb.IssueDeviceResponse


@dataclass
class _State:
    devices: dict[str, dict[str, _Device]] = field(default_factory=dict)
    tokens: dict[str, _Token] = field(default_factory=dict)
    answered: dict[str, _Answered] = field(default_factory=dict)
    events: list[pb.Event] = field(default_factory=list)


class FakeAuthority:
    """The server. Use it as a context manager, or call `start` and `stop`.

    `calls` counts the calls of each method, refused ones too; `rotations` how often a session went
    on to its next generation.
    """

    def __init__(self, *, token_ttl: timedelta = timedelta(hours=1)) -> None:
        self._token_ttl = token_ttl
        self._state = _State()
        self._changed = threading.Condition()
        self._away = False
        self._delay = 0.0
        self._max_devices: int | None = None
        self._passed = timedelta()
        self._server: grpc.Server | None = None
        self.address = ""
        self.calls: Counter[str] = Counter()
        self.rotations = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listens at `address`: a free port, or the one that it had before."""
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), options=_DONT_SHARE_PORTS)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, self._handlers()),)
        )
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        """Hangs up, and remembers everything."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(None).wait()

    def client(self, *, timeout: timedelta = DEFAULT_TIMEOUT) -> SessionAuthority:
        """A client of it, for threads."""
        return SessionAuthority(self.address, timeout=timeout)

    def async_client(self, *, timeout: timedelta = DEFAULT_TIMEOUT) -> AsyncSessionAuthority:
        """A client of it, for asyncio."""
        return AsyncSessionAuthority(self.address, timeout=timeout)

    # --- what tests ask of it ---------------------------------------------------------------------

    def reset(self) -> None:
        """Forgets every user, and what it counted: for one that serves many tests. Ends watches
        with CursorExpired.
        """
        with self._changed:
            self._state = _State()
            self._passed = timedelta()
            self.calls.clear()
            self.rotations = 0
            self._changed.notify_all()

    def sign_in(
        self,
        user_id: str,
        *,
        claims: Mapping[str, str] | None = None,
        auth_methods: Sequence[str] = (),
    ) -> dict[str, str]:
        """Signs a user in on a new device that is an app; the headers with which its requests come.

        For tests of what is behind the sign-in: any test client takes them. What browsers have,
        cookies and redirects, needs a sign-in through the app. Raises InvalidRequest.
        """
        with self.client(timeout=_PATIENCE) as client:
            issued = client.issue_device(user_id, claims=claims, auth_methods=auth_methods)
        return {
            "Authorization": f"Bearer {issued.access_token}",
            "X-Device-Id": issued.device.device_id,
        }

    def sign_out(self, user_id: str) -> int:
        """Signs a user out everywhere, as from another device or by an operator; on how many
        devices they were.
        """
        with self.client(timeout=_PATIENCE) as client:
            return client.revoke_all(user_id)

    # --- what may happen to it --------------------------------------------------------------------

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """Inside, it answers nothing but UNAVAILABLE."""
        self._away = True
        try:
            yield
        finally:
            self._away = False

    @contextmanager
    def slow(self, delay: timedelta) -> Iterator[None]:
        """Inside, it takes so long for each answer."""
        self._delay = delay.total_seconds()
        try:
            yield
        finally:
            self._delay = 0.0

    @contextmanager
    def device_limit(self, devices: int) -> Iterator[None]:
        """Inside, it signs nobody in on more devices than that."""
        self._max_devices = devices
        try:
            yield
        finally:
            self._max_devices = None

    def pass_time(self, passed: timedelta) -> None:
        """Its clock goes on by so much."""
        with self._changed:
            self._passed += passed

    def age_tokens(self) -> None:
        """Less than half of the life of each token is left: renewing is recommended."""
        with self._changed:
            for token in self._state.tokens.values():
                token.aged = True

    def expire_tokens(self) -> None:
        """Every token's time is over; their sessions go on."""
        with self._changed:
            for token in self._state.tokens.values():
                token.expired = True

    def replay_tokens(self) -> None:
        """Every token counts as replayed when it is next presented, on a device that is still
        signed in.
        """
        with self._changed:
            for token in self._state.tokens.values():
                token.replayed = True

    # --- the contract -----------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Any]:
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(name, answer),
                getattr(pb, f"{name}Request").FromString,
                getattr(pb, f"{name}Response").SerializeToString,
            )
            for name, answer in (
                ("IssueDevice", self._issue_device),
                ("RenewSession", self._renew_session),
                ("ValidateSession", self._validate_session),
                ("BatchValidateSessions", self._batch_validate_sessions),
                ("ListDevices", self._list_devices),
                ("UpdateDevice", self._update_device),
                ("RevokeDevice", self._revoke_device),
                ("RevokeAll", self._revoke_all),
                ("GetSigningKeys", self._get_signing_keys),
            )
        }
        handlers["WatchEvents"] = grpc.unary_stream_rpc_method_handler(
            self._watch_events,
            pb.WatchEventsRequest.FromString,
            pb.WatchEventsResponse.SerializeToString,
        )
        return handlers

    def _guarded(self, name: str, answer: Any) -> Any:
        def guarded(request: Any, context: grpc.ServicerContext) -> Any:
            if self._delay:
                time.sleep(self._delay)
            with self._changed:
                self.calls[name] += 1
                self._check_available(context)
                return answer(request, context)

        return guarded

    def _check_available(self, context: grpc.ServicerContext) -> None:
        if self._away:
            _abort(context, grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")

    def _issue_device(
        self, request: pb.IssueDeviceRequest, context: grpc.ServicerContext
    ) -> pb.IssueDeviceResponse:
        _check(context, user_id=request.user_id)
        if answered := self._state.answered.get(request.request_id):
            return self._answer_again(answered, request, context)
        now = self._now()
        presented = _uuid(request.device_id)
        device_id = presented or str(uuid4())
        devices = self._state.devices.setdefault(request.user_id, {})
        self._check_limit(devices, device_id, context)
        known, first = device_id in devices, not devices
        device = devices.setdefault(device_id, _Device(device_id, request.client, now, now, now))
        ttl = request.session_ttl.ToTimedelta() if request.HasField("session_ttl") else _SESSION_TTL
        device.client, device.sign_in, device.last_seen = request.client, now, now
        device.session = _Session(
            request.user_id,
            device_id,
            secrets.token_hex(16),
            dict(request.claims),
            tuple(request.auth_methods),
            sign_in=now,
            end=now + ttl,
            dated=now,
            replaced=device.session if self._is_live(device) else None,
        )
        text, token = self._hand_out(device.session)
        self._tell(
            pb.EVENT_TYPE_DEVICE_SIGNED_IN,
            request.user_id,
            device,
            new_device=not known,
            first_device=first,
        )
        response = pb.IssueDeviceResponse(
            device=self._device_message(device),
            access_token=text,
            token_expire_time=_stamp(token.end),
            device_id_assigned=presented is None,
            new_device=not known,
        )
        if request.request_id:
            self._state.answered[request.request_id] = _Answered(request, device.session, response)
        return response

    def _answer_again(
        self, answered: _Answered, request: pb.IssueDeviceRequest, context: grpc.ServicerContext
    ) -> pb.IssueDeviceResponse:
        if answered.request != request:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
        session = answered.session
        device = self._state.devices[session.user_id].get(session.device_id)
        if (
            device is None
            or device.session is not session
            or session.first_seen
            or session.generation > 1
        ):
            _abort(context, grpc.StatusCode.ABORTED, "REQUEST_ID_SPENT")
        return answered.response

    def _check_limit(
        self, devices: Mapping[str, _Device], device_id: str, context: grpc.ServicerContext
    ) -> None:
        others = sum(
            self._is_live(device) for device in devices.values() if device.device_id != device_id
        )
        if self._max_devices is not None and others >= self._max_devices:
            _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "DEVICE_LIMIT_REACHED")

    def _renew_session(
        self, request: pb.RenewSessionRequest, _: grpc.ServicerContext
    ) -> pb.RenewSessionResponse:
        status, token, revoked = self._judge(request.access_token, request.device_id, renewing=True)
        response = pb.RenewSessionResponse(status=status, revoked_devices=revoked)
        if token is None:
            return response
        session, now = token.session, self._now()
        if token.generation == session.generation:
            self._mark(token, now)
            if token.aged or token.expired or now - session.dated >= _ALARM_AFTER:
                session.generation, session.first_seen = session.generation + 1, None
                session.holder, session.predecessor = None, token
                session.dated = now
                self.rotations += 1
        if token.generation < session.generation and session.first_seen is None:
            if now - session.dated > _GRACE:
                session.dated = now
            response.access_token, token = self._hand_out(session)
            response.token_expire_time.CopyFrom(_stamp(token.end))
            response.rotated = True
        response.session.CopyFrom(_session_message(token))
        return response

    def _validate_session(
        self, request: pb.ValidateSessionRequest, _: grpc.ServicerContext
    ) -> pb.ValidateSessionResponse:
        status, token, revoked = self._judge(
            request.access_token, request.device_id, observe_only=request.observe_only
        )
        presented = _uuid(request.device_id)
        response = pb.ValidateSessionResponse(
            active=token is not None,
            status=status,
            device_id=presented or str(uuid4()),
            device_id_assigned=presented is None,
            revoked_devices=revoked,
        )
        if token is not None:
            session, now = token.session, self._now()
            response.session.CopyFrom(_session_message(token))
            superseded = token.generation < session.generation
            half_life = (token.end - token.issued) / 2
            response.renew_recommended = token.aged or token.end - now < half_life or superseded
            if not request.observe_only:
                self._state.devices[session.user_id][session.device_id].last_seen = now
                if not superseded:
                    self._mark(token, now)
        return response

    def _batch_validate_sessions(
        self, request: pb.BatchValidateSessionsRequest, context: grpc.ServicerContext
    ) -> pb.BatchValidateSessionsResponse:
        results = [
            pb.BatchValidateSessionsResult(response=self._validate_session(one, context))
            for one in request.requests
        ]
        return pb.BatchValidateSessionsResponse(results=results)

    def _list_devices(
        self, request: pb.ListDevicesRequest, context: grpc.ServicerContext
    ) -> pb.ListDevicesResponse:
        _check(context, user_id=request.user_id)
        devices = sorted(
            self._state.devices.get(request.user_id, {}).values(),
            key=lambda device: device.last_seen,
            reverse=True,
        )
        listed = [
            device for device in devices if self._is_live(device) or request.include_signed_out
        ]
        start, size = int(request.page_token or 0), request.page_size or _PAGE_SIZE
        end = start + size
        current = _uuid(request.current_device_id) or ""
        return pb.ListDevicesResponse(
            devices=[self._device_message(device, current) for device in listed[start:end]],
            next_page_token=str(end) if end < len(listed) else "",
            total_size=len(listed),
        )

    def _update_device(
        self, request: pb.UpdateDeviceRequest, context: grpc.ServicerContext
    ) -> pb.UpdateDeviceResponse:
        name = request.display_name.strip()
        _check(context, user_id=request.user_id, device_id=request.device_id, display_name=name)
        device = self._state.devices.get(request.user_id, {}).get(_uuid(request.device_id) or "")
        if device is None:
            _abort(context, grpc.StatusCode.NOT_FOUND, "DEVICE_NOT_FOUND")
        device.display_name = name
        return pb.UpdateDeviceResponse(device=self._device_message(device))

    def _revoke_device(
        self, request: pb.RevokeDeviceRequest, context: grpc.ServicerContext
    ) -> pb.RevokeDeviceResponse:
        _check(context, user_id=request.user_id, device_id=request.device_id)
        devices = self._state.devices.get(request.user_id, {})
        device = devices.get(_uuid(request.device_id) or "")
        if device is None:
            return pb.RevokeDeviceResponse()
        revoked, device.session = self._is_live(device), None
        if revoked:
            self._tell(pb.EVENT_TYPE_DEVICE_REVOKED, request.user_id, device, reason=request.reason)
        if request.forget:
            del devices[device.device_id]
        return pb.RevokeDeviceResponse(revoked=revoked)

    def _revoke_all(
        self, request: pb.RevokeAllRequest, context: grpc.ServicerContext
    ) -> pb.RevokeAllResponse:
        _check(context, user_id=request.user_id)
        spared = _uuid(request.except_device_id) or ""
        revoked = self._end_sessions(request.user_id, spared)
        if revoked:
            self._tell(
                pb.EVENT_TYPE_ALL_REVOKED,
                request.user_id,
                None,
                reason=request.reason,
                except_device_id=spared,
            )
        if request.forget:
            devices = self._state.devices.get(request.user_id, {})
            for device_id in devices.keys() - {spared}:
                del devices[device_id]
        return pb.RevokeAllResponse(revoked_devices=revoked)

    def _get_signing_keys(
        self, _: pb.GetSigningKeysRequest, __: grpc.ServicerContext
    ) -> pb.GetSigningKeysResponse:
        return pb.GetSigningKeysResponse(jwks_json='{"keys":[]}')

    def _watch_events(
        self, request: pb.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchEventsResponse]:
        with self._changed:
            self.calls["WatchEvents"] += 1
            self._check_available(context)
            state, start = self._state, len(self._state.events)
            if request.cursor:
                if not request.cursor.isdecimal() or int(request.cursor) > start:
                    _abort(context, grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
                start = int(request.cursor)
            elif request.HasField("start_time"):
                since = request.start_time.ToNanoseconds()
                start = sum(event.create_time.ToNanoseconds() < since for event in state.events)
            context.add_callback(self._wake)
        yield pb.WatchEventsResponse(cursor=str(start))
        while context.is_active():
            with self._changed:
                if self._state is state and len(state.events) == start:
                    self._changed.wait(_PROOF_OF_LIFE)
                self._check_available(context)
                if self._state is not state:
                    _abort(context, grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
                found, start = state.events[start:], len(state.events)
            told = [event for event in found if _is_wanted(event, request)]
            now = None if told else _stamp(self._now())
            yield pb.WatchEventsResponse(events=told, cursor=str(start), read_time=now)

    # --- the rule of generations ------------------------------------------------------------------

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._passed

    def _is_live(self, device: _Device) -> bool:
        return device.session is not None and self._now() < device.session.end

    def _judge(
        self, text: str, device_id: str, *, renewing: bool = False, observe_only: bool = False
    ) -> tuple[pb.SessionStatus, _Token | None, int]:
        """What a token is worth; the token if that is something; how many devices were signed
        out.
        """
        token, presented, now = self._state.tokens.get(text), _uuid(device_id), self._now()
        if token is None:
            return (
                pb.SESSION_STATUS_TOKEN_INVALID if text else pb.SESSION_STATUS_TOKEN_MISSING,
                None,
                0,
            )
        if not renewing and (token.expired or now >= token.end + _LEEWAY):
            return pb.SESSION_STATUS_TOKEN_EXPIRED, None, 0
        device = self._state.devices[token.session.user_id].get(token.session.device_id)
        if presented is None or device is None or device.session is None:
            return pb.SESSION_STATUS_NO_SESSION, None, 0
        if not self._is_live(device):
            if not observe_only:
                device.session = None
            return pb.SESSION_STATUS_SESSION_EXPIRED, None, 0
        verdict = _judge_on_its_device(device.session, token, now)
        if presented != device.device_id:
            left = verdict in (pb.SESSION_STATUS_ACTIVE, pb.SESSION_STATUS_REPLAYED)
            verdict = pb.SESSION_STATUS_REPLAYED if left else pb.SESSION_STATUS_WRONG_DEVICE
        revoked = 0
        if verdict == pb.SESSION_STATUS_REPLAYED and not observe_only:
            revoked = self._end_sessions(token.session.user_id)
            self._tell(pb.EVENT_TYPE_SESSION_REPLAYED, token.session.user_id, device)
        return verdict, token if verdict == pb.SESSION_STATUS_ACTIVE else None, revoked

    def _mark(self, token: _Token, now: datetime) -> None:
        """What it proves that a token of the current generation was presented."""
        session = token.session
        session.first_seen = session.first_seen or now
        if session.holder is None and now - session.dated >= _ALARM_AFTER:
            session.holder = token

    def _hand_out(self, session: _Session) -> tuple[str, _Token]:
        text, now = f"fake.{secrets.token_urlsafe(16)}", self._now()
        token = _Token(session, session.generation, now, min(now + self._token_ttl, session.end))
        self._state.tokens[text] = token
        return text, token

    def _end_sessions(self, user_id: str, spared: str = "") -> int:
        live = [
            device
            for device in self._state.devices.get(user_id, {}).values()
            if self._is_live(device) and device.device_id != spared
        ]
        for device in live:
            device.session = None
        return len(live)

    def _tell(self, kind: pb.EventType, user_id: str, device: _Device | None, **more: Any) -> None:
        event = pb.Event(
            event_id=str(len(self._state.events) + 1),
            type=kind,
            user_id=user_id,
            actor="fake",
            **more,
        )
        event.create_time.CopyFrom(_stamp(self._now()))
        if device is not None:
            event.device.device_id = device.device_id
            event.device.display_name = self._device_message(device).display_name
            event.client.info.CopyFrom(device.client)
        self._state.events.append(event)
        self._changed.notify_all()

    def _device_message(self, device: _Device, current: str = "") -> pb.Device:
        message = pb.Device(
            device_id=device.device_id,
            display_name=device.display_name or device.client.display_name or "Unknown device",
            last_client=device.client,
            create_time=_stamp(device.created),
            sign_in_time=_stamp(device.sign_in),
            last_seen_time=_stamp(device.last_seen),
            current=device.device_id == current,
            signed_in=self._is_live(device),
        )
        if message.signed_in and device.session is not None:
            message.session_id = device.session.session_id
            message.expire_time.CopyFrom(_stamp(device.session.end))
        return message

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _judge_on_its_device(live: _Session, token: _Token, now: datetime) -> pb.SessionStatus:
    """What a token is worth to the session that is live on its device."""
    used = None if live.first_seen is None else now - live.first_seen
    if token.session is not live:
        if token.session is not live.replaced:
            return pb.SESSION_STATUS_SESSION_ENDED
        crossed = token.issued > live.sign_in - _ALARM_AFTER
        if crossed or used is None or used < _ALARM_AFTER:
            return pb.SESSION_STATUS_SUPERSEDED
        return pb.SESSION_STATUS_REPLAYED
    behind = live.generation - token.generation
    settled = (live.holder, live.predecessor)[behind] if behind < 2 else None
    if token.replayed or behind > 1 or settled not in (None, token):
        return pb.SESSION_STATUS_REPLAYED
    if behind == 0 or used is None or used < _GRACE:
        return pb.SESSION_STATUS_ACTIVE
    return pb.SESSION_STATUS_SUPERSEDED if used < _ALARM_AFTER else pb.SESSION_STATUS_REPLAYED


def _is_wanted(event: pb.Event, request: pb.WatchEventsRequest) -> bool:
    return (not request.types or event.type in request.types) and (
        not request.user_ids or event.user_id in request.user_ids
    )


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text)) if len(text) == 36 else None
    except ValueError:
        return None


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _session_message(token: _Token) -> pb.Session:
    session = token.session
    return pb.Session(
        user_id=session.user_id,
        device_id=session.device_id,
        session_id=session.session_id,
        generation=token.generation,
        claims=session.claims,
        sign_in_time=_stamp(session.sign_in),
        token_expire_time=_stamp(token.end),
        expire_time=_stamp(session.end),
        auth_methods=session.auth_methods,
    )


def _check(context: grpc.ServicerContext, **fields: str) -> None:
    """Fails a call whose fields break their rules, of which it names all."""
    broken = [(name, rule) for name, value in fields.items() if (rule := _RULES[name](value))]
    if broken:
        text = "; ".join(f"{name}: {rule}" for name, rule in broken)
        violations = [
            status_pb2.BadRequest.FieldViolation(field=name, description=rule)
            for name, rule in broken
        ]
        bad = status_pb2.BadRequest(field_violations=violations)
        _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", text, bad)


def _broken_user_id(value: str) -> str:
    if not value:
        return "must not be empty"
    if len(value) > _LONGEST_USER_ID:
        return f"must have at most {_LONGEST_USER_ID} characters"
    if not value.isprintable() or any(letter.isspace() for letter in value):
        return "must have no white space, control or other unprintable characters"
    return ""


def _broken_device_id(value: str) -> str:
    return "" if _uuid(value) else "must be a UUID, like 123e4567-e89b-42d3-a456-426614174000"


def _broken_display_name(value: str) -> str:
    if len(value) > _LONGEST_DISPLAY_NAME:
        return f"must have at most {_LONGEST_DISPLAY_NAME} characters"
    printable = value.translate(_JOINERS).isprintable()
    return "" if printable else "must have no control or other unprintable characters"


_RULES = {
    "user_id": _broken_user_id,
    "device_id": _broken_device_id,
    "display_name": _broken_display_name,
}


def _abort(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    reason: str,
    text: str = "",
    bad: status_pb2.BadRequest | None = None,
) -> NoReturn:
    """Fails a call as the real one does, so that clients raise the same."""
    details: list[tuple[str, Message]] = [
        ("ErrorInfo", status_pb2.ErrorInfo(reason=reason, domain="session-authority"))
    ]
    if bad is not None:
        details.append(("BadRequest", bad))
    if code is grpc.StatusCode.UNAVAILABLE:
        details.append(("RetryInfo", status_pb2.RetryInfo(retry_delay=Duration(seconds=1))))
    status = status_pb2.Status(code=code.value[0], message=text or reason)
    for kind, message in details:
        status.details.add(
            type_url=f"type.googleapis.com/google.rpc.{kind}", value=message.SerializeToString()
        )
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, text or reason)
    raise AssertionError("abort raises")
