"""The errors of calls. There is one exception for each reason on which a caller can act.

An invalid session is no error but an answer. `Unavailable` and its subclasses say nothing about the
session. After them, answer your own caller with 503, and never with 401.
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
    """A field of the request, and the rule that the field breaks."""

    field: str
    description: str


class SessionAuthorityError(Exception):
    """A call that failed. `reason` is a name of the contract's `ErrorReason`, without its prefix.
    It is empty if the service gave no reason. `code` is the status code of gRPC. `retry_after` is
    the time to wait before the call is repeated, or None if this time is unknown.
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
        """Makes the exception picklable with all of its fields. Without this method, Python would
        pass only the message to another process.
        """
        more: dict[str, Any] = {
            "retry_after": self.retry_after,
            "violations": self.violations,
            "metadata": self.metadata,
        }
        return partial(type(self), str(self), self.code, self.reason, **more), ()


class InvalidRequest(SessionAuthorityError):
    """The request breaks rules. `violations` has the fields and their rules. It is empty if the
    request is malformed or too large. If very many fields break rules, it has only the first of
    them.
    """


class RequestIdReused(InvalidRequest):
    """A `request_id` was sent again with other contents."""


class RequestIdSpent(SessionAuthorityError):
    """The session that a `request_id` started has since been used, replaced or ended. Sign in again
    with another `request_id`.
    """


class DeviceLimitReached(SessionAuthorityError):
    """The user is signed in on as many devices as the service allows."""


class DeviceNotFound(SessionAuthorityError):
    """The user has no such device."""


class SessionNotFound(SessionAuthorityError):
    """The user is not signed in on this device."""


class Conflict(SessionAuthorityError):
    """Other calls for the user kept interfering, and nothing was changed. Repeat the call."""


class CursorExpired(SessionAuthorityError):
    """A watch can't continue without missing events. Drop everything that you cached, and start a
    new watch.
    """


class CallerUnknown(SessionAuthorityError):
    """The call has no certificate or token of a caller that the service knows."""


class CallerNotAllowed(SessionAuthorityError):
    """The access policy does not allow this call for this caller."""


class InternalError(SessionAuthorityError):
    """The service has a fault. Its log describes the fault under the ID `metadata["error_id"]`. The
    error of one item of a batch has no such ID.
    """


class Unavailable(SessionAuthorityError):
    """No answer came in time, or the service can't answer now. This says nothing about the session.
    The service may or may not have done what the call requested. A call also raises this error if
    the client is closed, or can't get its bearer token.
    """


class NotReplicated(Unavailable):
    """The change is done, but too few replicas confirmed it in time, and the call had
    `require_replicated`. Repeat the same call. A sign-in needs the same `request_id`, and a renewal
    needs the same token.
    """


class Overloaded(Unavailable):
    """The service has too much to do, and did nothing. Repeat the call after `retry_after`.
    `retry_after` is None in the error of one item of a batch, and in an error of gRPC or a proxy.
    """
