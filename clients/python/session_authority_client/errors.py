"""The errors of calls: one exception for each reason on which a caller can act.

A session that is not good is no error: it is an answer. `Unavailable` and its subclasses say
nothing of the session: answer your own caller with 503, and never with 401.
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
    """A field of the request that breaks a rule, and the rule."""

    field: str
    description: str


class SessionAuthorityError(Exception):
    """A call that failed. `reason` is a name of the contract's `ErrorReason`, without its prefix.
    It is empty if the service gave no reason.
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
        """Makes the exception picklable with all of its fields. By itself Python would pass only
        the message to another process.
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
    """A `request_id` was sent again with other contents."""


class RequestIdSpent(SessionAuthorityError):
    """The session that a `request_id` started was since used, replaced or ended: sign in with
    another `request_id`.
    """


class DeviceLimitReached(SessionAuthorityError):
    """The user is signed in on as many devices as the service allows."""


class DeviceNotFound(SessionAuthorityError):
    """The user has no such device."""


class SessionNotFound(SessionAuthorityError):
    """The user is not signed in on the device."""


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
    """There is no answer in time. This says nothing of the session, and the service may have done
    what the call requested.
    """


class NotReplicated(Unavailable):
    """The change is done, but too few replicas had it in time, and the call had
    `require_replicated`. Repeat the call: a sign-in with the same `request_id`, a renewal with the
    same token.
    """


class Overloaded(Unavailable):
    """The service has too much to do; nothing was done. Wait for `retry_after`."""
