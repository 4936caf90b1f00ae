"""The requests of every method whose request has fields, from bytes to the call of the authority.

The first byte says which method. A request is refused with an error that names its wrong fields, or
it reaches the authority. Here the authority knows no user. A request never causes a fault of the
service.
"""

from __future__ import annotations

import asyncio
import atexit
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from session_authority.access import Caller, Role
from session_authority.domain.errors import DeviceNotFound, InvalidRequest
from session_authority.domain.session_limits import SessionLimits
from session_authority.rpc import SessionAuthorityService
from session_authority.rpc.authorization import is_calling
from session_authority.rpc.status import failure_of
from session_authority.v1 import session_authority_pb2 as pb
from tests.fuzz.target import Target

_METHODS = [
    m
    for m in pb.DESCRIPTOR.services_by_name["SessionAuthorityService"].methods
    if m.input_type.fields
]


class _Nobody:
    """Replaces the authority and the feed: it knows no user."""

    limits = SessionLimits()

    def __getattr__(self, name: str) -> Any:
        async def answer(*arguments: object, **more: object) -> None:
            raise DeviceNotFound

        return answer


_NOBODY: Any = _Nobody()
_OPERATOR = Caller.of("ops", Role)
_SERVICE = SessionAuthorityService(_NOBODY, _NOBODY)
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


def check(data: bytes) -> None:
    """Sends a request."""
    if not data:
        return
    method = _METHODS[data[0] % len(_METHODS)]
    try:
        request = getattr(pb, method.input_type.name).FromString(data[1:])
    except DecodeError:
        return
    is_calling(_OPERATOR)
    try:
        answer = _LOOP.run_until_complete(getattr(_SERVICE, method.name)(request, _NOBODY))
    except DeviceNotFound:
        return
    except InvalidRequest as error:
        assert error.violations
        assert all(
            violation.field.partition("[")[0].partition(".")[0] in request.DESCRIPTOR.fields_by_name
            for violation in error.violations
        )
        assert failure_of(error, "").status().code is grpc.StatusCode.INVALID_ARGUMENT
        return
    assert method.name in ("BatchValidateSessions", "CheckSessions"), "it was answered by nobody"
    asked = request.requests if method.name == "BatchValidateSessions" else request.sessions
    assert len(answer.results) == len(asked)
    codes = {result.error.code for result in answer.results}
    assert codes <= {
        code.value[0] for code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
    }


_DEVICE = "123e4567-e89b-42d3-a456-426614174000"
_CLIENT = pb.ClientInfo(
    ip_address="203.0.113.7", user_agent="curl/8.5.0", display_name="Pixel 8", app_version="4.12"
)
_GOOD: dict[str, Message] = {
    "IssueDevice": pb.IssueDeviceRequest(
        user_id="ada",
        device_id=_DEVICE,
        client=_CLIENT,
        claims={"tenant": "acme"},
        auth_methods=["pwd"],
        request_id=_DEVICE,
    ),
    "RenewSession": pb.RenewSessionRequest(access_token="a.b.c", device_id=_DEVICE, client=_CLIENT),
    "UpdateSession": pb.UpdateSessionRequest(
        user_id="ada", device_id=_DEVICE, claims={"tenant": "acme"}
    ),
    "ValidateSession": pb.ValidateSessionRequest(
        access_token="a.b.c", device_id=_DEVICE, client=_CLIENT, observe_only=True
    ),
    "BatchValidateSessions": pb.BatchValidateSessionsRequest(
        requests=[pb.ValidateSessionRequest(access_token="a.b.c", device_id=_DEVICE)] * 2
    ),
    "CheckSessions": pb.CheckSessionsRequest(
        sessions=[pb.SessionName(user_id="ada", device_id=_DEVICE, session_id="0" * 32)] * 2
    ),
    "ListDevices": pb.ListDevicesRequest(
        user_id="ada", current_device_id=_DEVICE, page_size=10, page_token="x"
    ),
    "UpdateDevice": pb.UpdateDeviceRequest(
        user_id="ada", device_id=_DEVICE, display_name="Ada's phone"
    ),
    "RevokeDevice": pb.RevokeDeviceRequest(
        user_id="ada", device_id=_DEVICE, reason="lost", forget=True
    ),
    "RevokeAll": pb.RevokeAllRequest(user_id="ada", except_device_id=_DEVICE, reason="lost"),
    "WatchEvents": pb.WatchEventsRequest(
        types=[pb.EVENT_TYPE_ALL_REVOKED], user_ids=["ada"], cursor="x"
    ),
}
_TTL = pb.IssueDeviceRequest(user_id="ada")
_TTL.session_ttl.seconds = 3600
_SINCE = pb.WatchEventsRequest()
_SINCE.start_time.seconds = 1_767_000_000
_EXTREME_TTL, _EXTREME_SINCE = pb.IssueDeviceRequest(user_id="ada"), pb.WatchEventsRequest()
_EXTREME_TTL.session_ttl.seconds = _EXTREME_SINCE.start_time.seconds = 2**63 - 1
_SEEDS = [(method.name, _GOOD[method.name]) for method in _METHODS] + [
    ("IssueDevice", _TTL),
    ("WatchEvents", _SINCE),
]
_SEEDS += [("IssueDevice", _EXTREME_TTL), ("WatchEvents", _EXTREME_SINCE)]
_NUMBERS = {method.name: number for number, method in enumerate(_METHODS)}
TARGET = Target(
    check,
    seeds=[bytes([_NUMBERS[name]]) + message.SerializeToString() for name, message in _SEEDS],
    words=[
        _DEVICE.encode(),
        b"\xff" * 9 + b"\1",
        b"\xff\xff\xff\xff\x0f",
        "\u200b".encode(),
        b"iss",
        b"::ffff:1.2.3.4",
    ],
)
