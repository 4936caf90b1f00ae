"""Does the work of a support desk: lists the devices of a user, signs users out on devices, and
gets the verdicts on tokens.

Each function makes one kind of call of the contract. Every caller that has the needed roles may
make these calls. The results for devices and validations are messages in protobuf's JSON mapping,
with the names of the fields in the contract.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from session_authority.console.connection import Target, channel_to, failure_of
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

_CALL_SECONDS = 10.0
_PAGE_SIZE = 100


class CallFailed(Exception):
    """The server gave no answer, or refused the call. The message says why."""


def devices_of(target: Target, user_id: str, *, signed_out: bool) -> Iterator[dict[str, Any]]:
    """Yields the devices of a user, sorted by activity, the latest first. If `signed_out` is True,
    devices on which the user is signed out are included. Raises CallFailed if the server gives no
    answer or refuses the call.
    """
    request = pb.ListDevicesRequest(
        user_id=user_id, page_size=_PAGE_SIZE, include_signed_out=signed_out
    )
    with _service(target) as service:
        while True:
            page = service.ListDevices(request, timeout=_CALL_SECONDS)
            yield from map(_plain, page.devices)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def revoke_device(target: Target, user_id: str, device_id: str, reason: str) -> int:
    """Signs a user out on a device. Returns 1 if the user was signed in on the device, or else 0.
    Raises CallFailed if the server gives no answer or refuses the call.
    """
    request = pb.RevokeDeviceRequest(user_id=user_id, device_id=device_id, reason=reason)
    with _service(target) as service:
        return int(service.RevokeDevice(request, timeout=_CALL_SECONDS).revoked)


def revoke_all(target: Target, user_id: str, reason: str, except_device_id: str = "") -> int:
    """Signs a user out on all devices, except on `except_device_id` if it is given. Returns the
    number of devices on which the call ended a sign-in. Raises CallFailed if the server gives no
    answer or refuses the call.
    """
    request = pb.RevokeAllRequest(user_id=user_id, reason=reason, except_device_id=except_device_id)
    with _service(target) as service:
        return int(service.RevokeAll(request, timeout=_CALL_SECONDS).revoked_devices)


def worth_of(target: Target, access_token: str, device_id: str) -> dict[str, Any]:
    """Returns the service's verdict on a token that is presented with a device ID. The call writes
    nothing and raises no alarm. Raises CallFailed if the server gives no answer or refuses the
    call.
    """
    request = pb.ValidateSessionRequest(
        access_token=access_token, device_id=device_id, observe_only=True
    )
    with _service(target) as service:
        return _plain(service.ValidateSession(request, timeout=_CALL_SECONDS))


@contextmanager
def _service(target: Target) -> Iterator[pb_grpc.SessionAuthorityServiceStub]:
    reachable = target.reachable()
    with channel_to(reachable) as channel:
        try:
            yield pb_grpc.SessionAuthorityServiceStub(channel)
        except grpc.RpcError as error:
            raise CallFailed(f"{reachable}: {failure_of(reachable, error)}") from None


def _plain(message: Message) -> dict[str, Any]:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
