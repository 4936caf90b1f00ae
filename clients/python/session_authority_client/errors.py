"""Defines the exceptions that calls raise. There is one exception for each error to which a caller
can react.

If a session is not valid, a call raises no exception: its result has the status of the token. If a
call raises `Unavailable` or one of its subclasses, it is unknown whether the session is valid.
After an `Unavailable`, answer your own caller with 503, and never with 401.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import grpc

__all__ = [
    "CallerNotAllowed",
    "CallerUnknown",
    "Conflict",
    "CursorExpired",
    "DeviceLimitReached",
    "DeviceNotFound",
    "FieldViolation",
    "InternalError",
    "InvalidRequest",
    "NotReplicated",
    "Overloaded",
    "RequestIdReused",
    "RequestIdSpent",
    "SessionAuthorityError",
    "SessionNotFound",
    "Unavailable",
]


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """Names a field of the request, and describes the rule that the field breaks."""

    field: str
    description: str


class SessionAuthorityError(Exception):
    """The base class of all errors of calls. `reason` is a name of the contract's enum
    `ErrorReason`, without the prefix `ERROR_REASON_`. `reason` is empty if the service gave no
    reason. `code` is the status code of gRPC. `retry_after` is the time to wait before you repeat
    the call, or None if this time is unknown.
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
        """Makes the exception picklable with all of its fields. Without this method, Python could
        not unpickle the exception: it would pass only the message to `__init__`, which also needs
        `code`.
        """
        more: dict[str, Any] = {
            "retry_after": self.retry_after,
            "violations": self.violations,
            "metadata": self.metadata,
        }
        return partial(type(self), str(self), self.code, self.reason, **more), ()


class InvalidRequest(SessionAuthorityError):
    """The request breaks rules. `violations` has the fields that break rules, each with its rule.
    `violations` is empty if the request is malformed or too large. If very many fields break rules,
    `violations` has only the first of these fields.
    """


class RequestIdReused(InvalidRequest):
    """An earlier sign-in with the same `request_id` had other contents."""


class RequestIdSpent(SessionAuthorityError):
    """An earlier sign-in with the same `request_id` started a session, and this session has been
    used, replaced or ended since. Sign the user in again with a new `request_id`.
    """


class DeviceLimitReached(SessionAuthorityError):
    """The user is signed in on as many devices as the service allows."""


class DeviceNotFound(SessionAuthorityError):
    """The user has no device with the device ID that the request names."""


class SessionNotFound(SessionAuthorityError):
    """The user is not signed in on the device that the request names."""


class Conflict(SessionAuthorityError):
    """Other calls changed the same user's data again and again at the same time, so this call
    changed nothing. Repeat the call.
    """


class CursorExpired(SessionAuthorityError):
    """A watch can't continue at its cursor without missing events. Drop everything that you cached
    about sessions, and start a new watch without a cursor.
    """


class CallerUnknown(SessionAuthorityError):
    """The call has neither a certificate nor a bearer token of a caller that the service knows."""


class CallerNotAllowed(SessionAuthorityError):
    """The access policy does not allow this call for this caller."""


class InternalError(SessionAuthorityError):
    """The call failed because of a fault in the service. The service's log describes the fault
    under the ID `metadata["error_id"]`. If the error is about one item of a batch, `metadata` has
    no `error_id`.
    """


class Unavailable(SessionAuthorityError):
    """The service did not answer in time, or can't answer now. The error does not say whether the
    session is valid. The service may or may not have done what the call requested. A call also
    raises Unavailable if the client is closed, or can't get its bearer token.
    """


class NotReplicated(Unavailable):
    """The call had `require_replicated`. The service made the change, but too few replicas
    confirmed the change in time. Repeat the same call: a sign-in with the same `request_id`, and a
    renewal with the same token.
    """


class Overloaded(Unavailable):
    """The service is overloaded, and did nothing for this call. Repeat the call after
    `retry_after`. `retry_after` is None if the error is about one item of a batch, or comes from
    gRPC or a proxy and not from the service.
    """
