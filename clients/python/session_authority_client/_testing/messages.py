"""Makes the messages of the fake service, and the errors of its calls."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from session_authority_client._shared.device_ids import canonical_device_id
from session_authority_client._testing.fields import IDLE_LIMITS, of_session_name
from session_authority_client._testing.rules import ALARM_MEMORY, broken_fields
from session_authority_client._testing.state import Device, State, Token
from session_authority_client.wire import errors_pb2, status_pb2
from session_authority_client.wire import session_authority_pb2 as pb


def stamp(moment: datetime) -> Timestamp:
    """Converts a time to a protobuf Timestamp."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def what_is_asked(request: pb.IssueDeviceRequest) -> pb.IssueDeviceRequest:
    """Returns the request without the fields that may differ when a `request_id` is sent again:
    `client` and `require_replicated`.
    """
    bare = pb.IssueDeviceRequest()
    bare.CopyFrom(request)
    bare.ClearField("client")
    bare.ClearField("require_replicated")
    return bare


def session_message(state: State, token: Token) -> pb.Session:
    """Makes the message that describes the session of a token."""
    session = token.session
    return pb.Session(
        user_id=session.user_id,
        device_id=session.device_id,
        session_id=session.session_id,
        generation=token.generation,
        claims=token.claims,
        sign_in_time=stamp(state.told(session.signed_in_at)),
        token_expire_time=stamp(state.told(token.ends_at)),
        expire_time=stamp(state.told(session.expires_at)),
        auth_methods=session.auth_methods,
        absolute_expire_time=stamp(state.told(session.ends_at)),
    )


def device_message(state: State, device: Device, current: str = "") -> pb.Device:
    """Makes the message that describes a device. `current` is the ID of the device from which a
    list of devices is requested, or empty.
    """
    message = pb.Device(
        device_id=device.device_id,
        display_name=device.display_name or device.client.display_name or "Unknown device",
        last_client=device.client,
        create_time=stamp(state.told(device.created_at)),
        sign_in_time=stamp(state.told(device.signed_in_at)),
        last_seen_time=stamp(state.told(device.last_seen_at)),
        current=device.device_id == current,
        signed_in=state.is_live(device),
        city=device.client.place.city,
        country_code=device.client.place.country_code,
    )
    if device.last_alarm is not None and state.now() - device.last_alarm[0] <= ALARM_MEMORY:
        alarmed_at, message.last_alarm.replay_cause = device.last_alarm
        message.last_alarm.create_time.CopyFrom(stamp(state.told(alarmed_at)))
    if message.signed_in and device.session is not None:
        message.session_id = device.session.session_id
        message.auth_methods.extend(device.session.auth_methods)
        message.expire_time.CopyFrom(stamp(state.told(device.session.expires_at)))
        message.absolute_expire_time.CopyFrom(stamp(state.told(device.session.ends_at)))
    return message


def checked_session(state: State, name: pb.SessionName) -> pb.CheckSessionsResult:
    """Returns the state of the session that `name` identifies. If `name` breaks rules, the result
    has an error with these rules.
    """
    if broken := of_session_name(name):
        error = pb.RequestError(
            code=grpc.StatusCode.INVALID_ARGUMENT.value[0],
            reason=errors_pb2.ERROR_REASON_INVALID_REQUEST,
            message=_told(broken),
            field_violations=[pb.FieldViolation(field=f, description=rule) for f, rule in broken],
        )
        return pb.CheckSessionsResult(error=error)
    return pb.CheckSessionsResult(state=_state_message(state, name))


def _state_message(state: State, name: pb.SessionName) -> pb.SessionState:
    devices = state.devices.get(name.user_id, {})
    device = devices.get(canonical_device_id(name.device_id))
    if device is None or device.session is None:
        return pb.SessionState(status=pb.SESSION_STATUS_NO_SESSION)
    session = device.session
    if session.session_id != name.session_id.lower():
        return pb.SessionState(status=pb.SESSION_STATUS_SESSION_ENDED)
    if not state.is_live(device):
        return pb.SessionState(status=pb.SESSION_STATUS_SESSION_EXPIRED)
    return pb.SessionState(
        status=pb.SESSION_STATUS_ACTIVE,
        expire_time=stamp(state.told(session.expires_at)),
        absolute_expire_time=stamp(state.told(session.ends_at)),
    )


def event_message(
    state: State, kind: pb.EventType, user_id: str, device: Device | None, **more: Any
) -> pb.Event:
    """Makes the next event of the fake service. `more` has the fields that only some types of
    events have.
    """
    number = str(len(state.events) + 1)
    event = pb.Event(event_id=number, type=kind, user_id=user_id, actor="fake", **more)
    event.create_time.CopyFrom(stamp(state.now()))
    if device is not None:
        event.device.device_id = device.device_id
        event.device.display_name = device_message(state, device).display_name
        event.client.info.CopyFrom(device.client)
        event.client.city = device.client.place.city
        event.client.country_code = device.client.place.country_code
    return event


def prove(message: pb.WatchEventsResponse, state: State) -> None:
    """Adds to a message of a watch the proof that the watch has sent all events so far."""
    message.read_time.CopyFrom(stamp(state.now()))
    message.read_uptime.FromNanoseconds(time.monotonic_ns())


def is_wanted(event: pb.Event, request: pb.WatchEventsRequest) -> bool:
    """Returns True if the request of a watch selects the event."""
    return (not request.types or event.type in request.types) and (
        not request.user_ids or event.user_id in request.user_ids
    )


def check_fields(context: grpc.ServicerContext, **fields: str) -> None:
    """Checks fields of a request. If any field breaks a rule, fails the call with an error that
    names the field and the rule.
    """
    refuse(context, broken_fields(fields))


def refuse(context: grpc.ServicerContext, broken: Sequence[tuple[str, str]]) -> None:
    """Fails a call if `broken` has any entries. The error names each broken field and its rule."""
    if broken:
        violations = [
            status_pb2.BadRequest.FieldViolation(field=name, description=rule)
            for name, rule in broken
        ]
        bad = status_pb2.BadRequest(field_violations=violations)
        told = _told(broken)
        names = {name for name, _ in broken}
        metadata = IDLE_LIMITS if "idle_timeout" in names else None
        abort(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", told, bad, metadata)


def _told(broken: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {rule}" for name, rule in broken)


def abort(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    reason: str,
    text: str = "",
    bad: status_pb2.BadRequest | None = None,
    metadata: Mapping[str, str] | None = None,
) -> NoReturn:
    """Fails a call with the same error details as the real service, so that clients raise the same
    exceptions.
    """
    info = status_pb2.ErrorInfo(reason=reason, domain="session-authority", metadata=metadata)
    details: list[tuple[str, Message]] = [("ErrorInfo", info)]
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
