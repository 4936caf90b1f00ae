"""Why a call failed: one exception for each reason that a caller can act on.

A session that is not good is no error: it is an answer. Whatever is `Unavailable` says nothing of
the session: answer your own caller with 503, and never with 401.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from session_authority_client.wire import errors_pb2, session_authority_pb2, status_pb2

_DOMAIN = "session-authority"
_PREFIX = "ERROR_REASON_"
_TYPE_URL = "type.googleapis.com/google.rpc."
_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request that breaks its rule."""

    field: str
    description: str


class SessionAuthorityError(Exception):
    """A call that failed. `reason` is of the contract's `ErrorReason`, without its prefix; empty if
    the service said none.
    """

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode,
        reason: str = "",
        *,
        retry_after: timedelta | None = None,
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """An exception crosses from one process to another by what it was made of, and Python knows
        the message only.
        """
        more: dict[str, Any] = {
            "retry_after": self.retry_after,
            "violations": self.violations,
            "metadata": self.metadata,
        }
        return partial(type(self), str(self), self.code, self.reason, **more), ()


class InvalidRequest(SessionAuthorityError):
    """The request breaks rules; `violations` has each field and its rule."""


class RequestIdReused(InvalidRequest):
    """A `request_id` came back with other contents."""


class RequestIdSpent(SessionAuthorityError):
    """The session that a `request_id` started was since used, replaced or ended: sign in with
    another one.
    """


class DeviceLimitReached(SessionAuthorityError):
    """The user is signed in on as many devices as they may be."""


class DeviceNotFound(SessionAuthorityError):
    """The user has no such device."""


class Conflict(SessionAuthorityError):
    """Other calls for the user kept interfering; nothing was done, call again."""


class CursorExpired(SessionAuthorityError):
    """A watch can't go on without missing events: drop what you cache, and watch anew."""


class CallerUnknown(SessionAuthorityError):
    """The service does not know who calls: no certificate or token of a known caller."""


class CallerNotAllowed(SessionAuthorityError):
    """The access policy does not let this caller do that."""


class InternalError(SessionAuthorityError):
    """A fault of the service; its log has more under `metadata["error_id"]`."""


class Unavailable(SessionAuthorityError):
    """There is no answer in time. It says nothing of the session, and what was asked for may have
    been done.
    """


class Overloaded(Unavailable):
    """The service has too much to do; nothing was done. Wait for `retry_after`."""


_BY_REASON: Mapping[str, type[SessionAuthorityError]] = {
    "INVALID_REQUEST": InvalidRequest,
    "MALFORMED_MESSAGE": InvalidRequest,
    "MESSAGE_TOO_LARGE": InvalidRequest,
    "REQUEST_ID_REUSED": RequestIdReused,
    "REQUEST_ID_SPENT": RequestIdSpent,
    "DEVICE_LIMIT_REACHED": DeviceLimitReached,
    "DEVICE_NOT_FOUND": DeviceNotFound,
    "CONFLICT": Conflict,
    "CURSOR_EXPIRED": CursorExpired,
    "CALLER_UNKNOWN": CallerUnknown,
    "CALLER_NOT_ALLOWED": CallerNotAllowed,
    "OVERLOADED": Overloaded,
    "STORE_UNAVAILABLE": Unavailable,
    "DEADLINE_TOO_SHORT": Unavailable,
    "STOPPING": Unavailable,
    "INTERNAL": InternalError,
}
# For what gRPC itself says, or a proxy on the way.
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


def error_of(error: grpc.RpcError) -> SessionAuthorityError:
    """What a failed call is told as."""
    code, message = error.code(), error.details() or ""
    info, retry_after, violations = status_pb2.ErrorInfo(), None, []
    for detail in _details_of(error):
        kind = detail.type_url.removeprefix(_TYPE_URL)
        try:
            if kind == "ErrorInfo":
                found = status_pb2.ErrorInfo.FromString(detail.value)
                info = found if found.domain == _DOMAIN else info
            elif kind == "RetryInfo":
                retry_after = status_pb2.RetryInfo.FromString(
                    detail.value
                ).retry_delay.ToTimedelta()
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
    """What one item of a batch failed with."""
    code = _CODES.get(error.code, grpc.StatusCode.UNKNOWN)
    known = error.reason and error.reason in errors_pb2.ErrorReason.values()
    reason = errors_pb2.ErrorReason.Name(error.reason).removeprefix(_PREFIX) if known else ""
    made = _BY_REASON.get(reason) or _BY_CODE.get(code, SessionAuthorityError)
    violations = [FieldViolation(v.field, v.description) for v in error.field_violations]
    return made(error.message, code, reason, violations=violations)


def client_closed() -> Unavailable:
    """What becomes of the calls of a client that is closed."""
    return Unavailable("the client is closed", grpc.StatusCode.CANCELLED)


def too_late() -> Unavailable:
    """What becomes of a call whose time is over."""
    return Unavailable("there was no answer in time", grpc.StatusCode.DEADLINE_EXCEEDED)


def copy_of(error: BaseException) -> BaseException:
    """The same error for somebody else: exceptions carry where they went, and may be added to."""
    made = error.__class__.__new__(error.__class__)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    return made


def _details_of(error: grpc.RpcError) -> Sequence[Any]:
    found: Any = error.trailing_metadata() or ()  # pairs, whatever the types of grpcio say
    for name, value in found:
        if name == _DETAILS and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []
