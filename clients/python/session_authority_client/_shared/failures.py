"""Translates the failure of a call to the service into the exception that the caller gets.

The client for asyncio and the client for threads translate the exceptions of their calls with
`failure_of`. The watch of a near cache uses `error_of`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from session_authority_client.errors import (
    CallerNotAllowed,
    CallerUnknown,
    Conflict,
    CursorExpired,
    DeviceLimitReached,
    DeviceNotFound,
    FieldViolation,
    InternalError,
    InvalidRequest,
    NotReplicated,
    Overloaded,
    RequestIdReused,
    RequestIdSpent,
    SessionAuthorityError,
    SessionNotFound,
    Unavailable,
)
from session_authority_client.wire import errors_pb2, session_authority_pb2, status_pb2

_DOMAIN = "session-authority"
_PREFIX = "ERROR_REASON_"
_TYPE_URL = "type.googleapis.com/google.rpc."
_DETAILS = "grpc-status-details-bin"

_BY_REASON: Mapping[str, type[SessionAuthorityError]] = {
    "INVALID_REQUEST": InvalidRequest,
    "MALFORMED_MESSAGE": InvalidRequest,
    "MESSAGE_TOO_LARGE": InvalidRequest,
    "REQUEST_ID_REUSED": RequestIdReused,
    "REQUEST_ID_SPENT": RequestIdSpent,
    "DEVICE_LIMIT_REACHED": DeviceLimitReached,
    "DEVICE_NOT_FOUND": DeviceNotFound,
    "SESSION_NOT_FOUND": SessionNotFound,
    "CONFLICT": Conflict,
    "CURSOR_EXPIRED": CursorExpired,
    "CALLER_UNKNOWN": CallerUnknown,
    "CALLER_NOT_ALLOWED": CallerNotAllowed,
    "OVERLOADED": Overloaded,
    "STORE_UNAVAILABLE": Unavailable,
    "DEADLINE_TOO_SHORT": Unavailable,
    "STOPPING": Unavailable,
    "NOT_READY": Unavailable,
    "NOT_REPLICATED": NotReplicated,
    "INTERNAL": InternalError,
}
# This table has the exceptions for a status without a reason, and for a status with a reason that
# this version of the package does not know. A status without a reason comes from gRPC itself, or
# from a proxy between the client and the service.
_BY_CODE: Mapping[grpc.StatusCode, type[SessionAuthorityError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: CallerUnknown,
    grpc.StatusCode.PERMISSION_DENIED: CallerNotAllowed,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def failure_of(error: BaseException, *, closed: bool) -> BaseException:
    """Translates an exception of a call into the exception that the caller gets.

    `closed` is True if the client is closed. gRPC cancels the calls of a closed client, and refuses
    new calls. An exception that is no failure of the call is returned unchanged.
    """
    if isinstance(error, asyncio.CancelledError):
        # Either the caller's task was cancelled, or gRPC cancelled only the call.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            return error
        return client_closed() if closed else too_late()
    if isinstance(error, grpc.FutureCancelledError):
        return client_closed()
    if isinstance(error, grpc.RpcError):
        if closed and error.code() is grpc.StatusCode.CANCELLED:
            return client_closed()
        return error_of(error)
    if isinstance(error, ValueError) and closed:  # gRPC raises ValueError for a closed channel
        return client_closed()
    return error


def error_of(error: grpc.RpcError) -> SessionAuthorityError:
    """Returns the exception for the status of a failed call."""
    code, message = error.code(), error.details() or ""
    info, retry_after, violations = status_pb2.ErrorInfo(), None, []
    for detail in _details_of(error):
        kind = detail.type_url.removeprefix(_TYPE_URL)
        try:
            if kind == "ErrorInfo":
                found = status_pb2.ErrorInfo.FromString(detail.value)
                info = found if found.domain == _DOMAIN else info
            elif kind == "RetryInfo":
                retry = status_pb2.RetryInfo.FromString(detail.value)
                retry_after = retry.retry_delay.ToTimedelta()
            elif kind == "BadRequest":
                bad = status_pb2.BadRequest.FromString(detail.value)
                violations = [FieldViolation(v.field, v.description) for v in bad.field_violations]
        except DecodeError:
            continue
    made = _BY_REASON.get(info.reason) or _BY_CODE.get(code, SessionAuthorityError)
    return made(
        message,
        code,
        info.reason,
        retry_after=retry_after,
        violations=violations,
        metadata=dict(info.metadata),
    )


def error_of_item(error: session_authority_pb2.RequestError) -> SessionAuthorityError:
    """Returns the exception for one failed item of a batch."""
    code = _CODES.get(error.code, grpc.StatusCode.UNKNOWN)
    known = error.reason and error.reason in errors_pb2.ErrorReason.values()
    reason = errors_pb2.ErrorReason.Name(error.reason).removeprefix(_PREFIX) if known else ""
    made = _BY_REASON.get(reason) or _BY_CODE.get(code, SessionAuthorityError)
    violations = [FieldViolation(v.field, v.description) for v in error.field_violations]
    return made(error.message, code, reason, violations=violations)


def client_closed() -> Unavailable:
    """Returns the error for a call that a closed client makes."""
    return Unavailable("the client is closed", grpc.StatusCode.CANCELLED)


def too_late() -> Unavailable:
    """Returns the error for a call whose deadline has passed."""
    return Unavailable("there was no answer in time", grpc.StatusCode.DEADLINE_EXCEEDED)


def copy_of(error: BaseException) -> BaseException:
    """Returns a copy of an error for one of several callers. A caller may add notes or a traceback
    to its copy.

    An error that is no SessionAuthorityError is not copied but returned itself, because a copy
    could lose parts of the error.
    """
    if not isinstance(error, SessionAuthorityError):
        return error
    made = error.__class__.__new__(error.__class__)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    return made.with_traceback(error.__traceback__)


def _details_of(error: grpc.RpcError) -> Sequence[Any]:
    found: Any = error.trailing_metadata() or ()  # pairs of name and value
    for name, value in found:
        if name == _DETAILS and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []
