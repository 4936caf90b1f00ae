"""The reasons for which a request fails: one exception for each reason of the public contract,
except INTERNAL. INTERNAL stands for every other exception.

The `rpc` package maps each exception to a gRPC status by its type. The message is written for the
caller, so it never contains a token, a key or the text of a driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field that breaks its rule: the path of the field in the request, and the rule."""

    field: str
    description: str


class AuthorityError(Exception):
    """The base class of the exceptions in this module. The class itself is never raised."""


class InvalidRequest(AuthorityError):
    """Fields of the request break their rules. The exception names these fields and the rules.
    `metadata` has values with which a program can correct the request. Often it is empty.
    """

    def __init__(
        self, violations: Sequence[FieldViolation], metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})


class MalformedMessage(AuthorityError):
    """The bytes of the request are not a message of the called method."""

    def __init__(self) -> None:
        super().__init__("the request is not a well-formed message of this method")


class MessageTooLarge(AuthorityError):
    """The encoded request is larger than the method accepts."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the request has {size} bytes; this method takes at most {limit}")


class RequestIdReused(AuthorityError):
    """A `request_id` was sent again, but with different contents."""

    def __init__(self) -> None:
        super().__init__(
            "request_id: was used in the last 15 minutes by a request with other contents"
        )


class RequestIdSpent(AuthorityError):
    """The session that this `request_id` started has been used, replaced or ended since then."""

    def __init__(self) -> None:
        super().__init__(
            "request_id: the session that it started was since used, replaced or ended; use a"
            " fresh one"
        )


class DeviceLimitReached(AuthorityError):
    """The user is signed in on as many devices as the limit allows."""

    def __init__(self, max_devices: int) -> None:
        super().__init__(f"the user is signed in on {max_devices} devices, which is the limit")
        self.max_devices = max_devices


class DeviceNotFound(AuthorityError):
    """The user does not have the requested device."""

    def __init__(self) -> None:
        super().__init__("the user has no device with this device_id")


class SessionNotFound(AuthorityError):
    """The user is not signed in on the device."""

    def __init__(self) -> None:
        super().__init__("the user is not signed in on the device with this device_id")


class Conflict(AuthorityError):
    """Other requests kept changing the records that this request had read. Nothing was written."""

    def __init__(self) -> None:
        super().__init__(
            "other requests for this user kept interfering; nothing was written, try again"
        )


class CursorExpired(AuthorityError):
    """A watch can't continue from its position without missing events."""

    def __init__(self) -> None:
        super().__init__(
            "events may be missed from here on; drop what you cache and watch again without a"
            " cursor"
        )


class StoreUnavailable(AuthorityError):
    """The store can't be reached, is slow, or refuses commands."""

    retry_after = timedelta(milliseconds=500)

    def __init__(self) -> None:
        super().__init__("the session store does not answer; try again")


class NotReplicated(AuthorityError):
    """The change was written on the primary, but too few replicas confirmed it in time."""

    retry_after = timedelta(milliseconds=500)

    def __init__(self) -> None:
        super().__init__(
            "done, but not yet on as many replicas as are wanted: a failover may lose it; the same"
            " call again confirms it"
        )


class DeadlineTooShort(AuthorityError):
    """The caller's deadline left too little time to use the store, or the request took too long to
    arrive. Nothing was done. A health watch also raises this exception, if the caller took too long
    to read an answer.
    """

    retry_after = timedelta(0)

    def __init__(
        self, why: str = "the deadline leaves too little time to ask the session store"
    ) -> None:
        super().__init__(why)


class CallerUnknown(AuthorityError):
    """The service does not know the caller. `shown` holds the names in the caller's certificate,
    for the log only.
    """

    def __init__(
        self,
        why: str = "the call brings no certificate and no bearer token of a known caller",
        shown: Sequence[str] = (),
    ) -> None:
        super().__init__(why)
        self.shown = tuple(shown)


class CallerNotAllowed(AuthorityError):
    """The caller is known, but has no permission for this call."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the caller may not {what}")


class Stopping(AuthorityError):
    """The server process is stopping: it ends its streams, and accepts no more streams."""

    retry_after = timedelta(0)

    def __init__(self) -> None:
        super().__init__("the service is stopping here; go on at another one")


class NotReady(AuthorityError):
    """The server can't trust its answers: its clock is wrong, its store is unsafe, or it could not
    read its signing keys or its access policy for 5 seconds.
    """

    retry_after = timedelta(milliseconds=500)

    def __init__(self) -> None:
        super().__init__("this server can't tell for sure at the moment; try another one, or again")


class Overloaded(AuthorityError):
    """Too many calls or streams are under way. `of_caller` is true if this caller has reached its
    own share. It is false if the process has reached its limit. A stream of an unknown caller also
    ends with this exception when a new stream takes its place.
    """

    retry_after = timedelta(milliseconds=100)

    def __init__(self, *, of_caller: bool = False) -> None:
        super().__init__("too many calls are under way; try again")
        self.of_caller = of_caller
