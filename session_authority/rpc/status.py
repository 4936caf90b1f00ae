"""Maps the errors of the domain to gRPC statuses with machine-readable details (AIP-193).

An error that is missing from the table `_TABLE` is a fault of the service, unless the error is a
Refused or a TimeoutError. The status of a fault is INTERNAL, with a fixed text.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from session_authority.domain import errors
from session_authority.runtime.logs import fault
from session_authority.v1 import errors_pb2
from session_authority.v1 import session_authority_pb2 as pb

DOMAIN = "session-authority"
INTERNAL_TEXT = "internal error"
_REASON_PREFIX = "ERROR_REASON_"
# The limits of the parts of a status. A status is sent in HTTP/2 trailers, and clients refuse
# trailers of more than 8 KiB. A client that refuses the trailers can't learn why its call failed.
_MAX_MESSAGE_CHARACTERS = 1024
_MAX_VIOLATIONS_BYTES = 3072

_log = structlog.get_logger(__name__)

_TABLE: dict[type[Exception], tuple[grpc.StatusCode, errors_pb2.ErrorReason]] = {
    errors.InvalidRequest: (
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_INVALID_REQUEST,
    ),
    errors.MalformedMessage: (
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_MALFORMED_MESSAGE,
    ),
    errors.MessageTooLarge: (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors_pb2.ERROR_REASON_MESSAGE_TOO_LARGE,
    ),
    errors.RequestIdReused: (
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
    ),
    errors.RequestIdSpent: (grpc.StatusCode.ABORTED, errors_pb2.ERROR_REASON_REQUEST_ID_SPENT),
    errors.DeviceLimitReached: (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors_pb2.ERROR_REASON_DEVICE_LIMIT_REACHED,
    ),
    errors.DeviceNotFound: (grpc.StatusCode.NOT_FOUND, errors_pb2.ERROR_REASON_DEVICE_NOT_FOUND),
    errors.SessionNotFound: (
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_SESSION_NOT_FOUND,
    ),
    errors.Conflict: (grpc.StatusCode.ABORTED, errors_pb2.ERROR_REASON_CONFLICT),
    errors.CursorExpired: (grpc.StatusCode.OUT_OF_RANGE, errors_pb2.ERROR_REASON_CURSOR_EXPIRED),
    errors.CallerUnknown: (grpc.StatusCode.UNAUTHENTICATED, errors_pb2.ERROR_REASON_CALLER_UNKNOWN),
    errors.CallerNotAllowed: (
        grpc.StatusCode.PERMISSION_DENIED,
        errors_pb2.ERROR_REASON_CALLER_NOT_ALLOWED,
    ),
    errors.Overloaded: (grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_OVERLOADED),
    errors.Stopping: (grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_STOPPING),
    errors.NotReady: (grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_NOT_READY),
    errors.StoreUnavailable: (
        grpc.StatusCode.UNAVAILABLE,
        errors_pb2.ERROR_REASON_STORE_UNAVAILABLE,
    ),
    errors.NotReplicated: (grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_NOT_REPLICATED),
    errors.DeadlineTooShort: (
        grpc.StatusCode.UNAVAILABLE,
        errors_pb2.ERROR_REASON_DEADLINE_TOO_SHORT,
    ),
}


class Refused(Exception):
    """An error that the service's own contract does not define. Methods of `grpc.health.v1` raise
    Refused, and so does a stream whose answer could not be written. The status of a Refused error
    has no details.
    """

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in the terms of the contract: code, reason and details."""

    code: grpc.StatusCode
    reason: errors_pb2.ErrorReason
    message: str
    violations: tuple[errors.FieldViolation, ...] = ()
    retry_after: timedelta | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    def status(self) -> grpc.Status:
        """Returns the gRPC status of this failure, with an ErrorInfo. The status also has a
        BadRequest if there are violations, and a RetryInfo if `retry_after` is set. If `reason` is
        unspecified, the status has no details.
        """
        if self.reason == errors_pb2.ERROR_REASON_UNSPECIFIED:
            return rpc_status.to_status(
                status_pb2.Status(code=code_number(self.code), message=self.message)
            )
        name = errors_pb2.ErrorReason.Name(self.reason).removeprefix(_REASON_PREFIX)
        status = status_pb2.Status(code=code_number(self.code), message=self.message)
        info = error_details_pb2.ErrorInfo(reason=name, domain=DOMAIN, metadata=dict(self.metadata))
        status.details.add().Pack(info)
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for violation in self.violations:
                bad.field_violations.add(field=violation.field, description=violation.description)
            status.details.add().Pack(bad)
        if self.retry_after is not None:
            delay = Duration()
            delay.FromTimedelta(self.retry_after)
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        return rpc_status.to_status(status)

    def message_of_batch(self) -> pb.RequestError:
        """Returns this failure as the error of one item of a batch. The result has no `retry_after`
        and no `metadata`.
        """
        return pb.RequestError(
            code=code_number(self.code),
            reason=self.reason,
            message=self.message,
            field_violations=[
                pb.FieldViolation(field=v.field, description=v.description) for v in self.violations
            ],
        )


def failure_of(error: Exception, method: str) -> Failure:
    """Returns the failure that is sent to the caller if a method ends with this exception.

    A TimeoutError counts as StoreUnavailable, because a call that runs out of time was most
    probably waiting for Redis. Refused becomes a failure without a reason. Any other exception that
    is missing from `_TABLE` is a fault of the service, and is logged with the name of the method.
    """
    if isinstance(error, TimeoutError):
        error = errors.StoreUnavailable()
    if isinstance(error, Refused):
        return Failure(error.code, errors_pb2.ERROR_REASON_UNSPECIFIED, str(error))
    row = _TABLE.get(type(error))
    if row is None:
        return _failure_of_fault(error, method)
    code, reason = row
    text = str(error)
    metadata: tuple[tuple[str, str], ...] = ()
    if isinstance(error, errors.DeviceLimitReached):
        metadata = (("max_devices", str(error.max_devices)),)
    elif isinstance(error, errors.InvalidRequest):
        metadata = tuple(error.metadata.items())
    return Failure(
        code,
        reason,
        text
        if len(text) <= _MAX_MESSAGE_CHARACTERS
        else f"{text[: _MAX_MESSAGE_CHARACTERS - 4]} ...",
        violations=_fitting(error.violations) if isinstance(error, errors.InvalidRequest) else (),
        retry_after=getattr(error, "retry_after", None),
        metadata=metadata,
    )


def _fitting(violations: Sequence[errors.FieldViolation]) -> tuple[errors.FieldViolation, ...]:
    """Returns the violations without duplicates. If not all violations fit into a status, returns
    only the first violations that fit.
    """
    fitting, size = [], 0
    for violation in dict.fromkeys(violations):
        size += len(violation.field) + len(violation.description)
        if size > _MAX_VIOLATIONS_BYTES:
            break
        fitting.append(violation)
    return tuple(fitting)


def _failure_of_fault(error: Exception, method: str) -> Failure:
    """Returns the failure for a fault of the service, and logs the fault. The caller gets only a
    fixed text and an error ID. With the error ID, an operator can find the fault in the log.
    """
    error_id = secrets.token_hex(8)
    _log.error("internal_error", method=method, error_id=error_id, **fault(error))
    return Failure(
        grpc.StatusCode.INTERNAL,
        errors_pb2.ERROR_REASON_INTERNAL,
        INTERNAL_TEXT,
        metadata=(("error_id", error_id),),
    )


def code_number(code: grpc.StatusCode) -> int:
    """Returns the number of a status code, as gRPC sends it."""
    number: int = code.value[0]
    return number


def code_of(context: Any) -> int:
    """Returns the number of the status code with which a handler has aborted its own call."""
    code = context.code()
    return code_number(code) if isinstance(code, grpc.StatusCode) else int(code or 0)
