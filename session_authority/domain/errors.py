"""Defines the errors of requests: one exception for each error reason of the public contract,
except INTERNAL. INTERNAL stands for every other exception.

The `rpc` package maps each exception to a gRPC status by its type. The message of an exception is
sent to the caller, so it never contains a token, a key, or a text of the Redis driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field that breaks its rule. `field` is the path of the field in the request, and
    `description` is the rule.
    """

    field: str
    description: str


class AuthorityError(Exception):
    """The base class of the exceptions in this module. The class itself is never raised."""


class InvalidRequest(AuthorityError):
    """Fields of the request break their rules. `violations` names the fields and the rules.
    `metadata` has values with which a program can correct the request, and is often empty.
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
    """A sign-in has the `request_id` of an earlier sign-in, but different contents."""

    def __init__(self) -> None:
        super().__init__(
            "request_id: was used in the last 15 minutes by a request with other contents"
        )


class RequestIdSpent(AuthorityError):
    """A sign-in repeats the `request_id` of an earlier sign-in, but the session of the earlier
    sign-in has since been used, replaced or ended.
    """

    def __init__(self) -> None:
        super().__init__(
            "request_id: the session that it started was since used, replaced or ended; use a"
            " fresh one"
        )


class DeviceLimitReached(AuthorityError):
    """The user is signed in on as many devices as the limit allows, so a sign-in on another device
    is refused.
    """

    def __init__(self, max_devices: int) -> None:
        super().__init__(f"the user is signed in on {max_devices} devices, which is the limit")
        self.max_devices = max_devices


class DeviceNotFound(AuthorityError):
    """The service knows no device of the user with the requested device ID."""

    def __init__(self) -> None:
        super().__init__("the user has no device with this device_id")


class SessionNotFound(AuthorityError):
    """The user is not signed in on the device."""

    def __init__(self) -> None:
        super().__init__("the user is not signed in on the device with this device_id")


class Conflict(AuthorityError):
    """The service tried several times to carry out the request, but other requests changed the same
    records each time. Nothing was written.
    """

    def __init__(self) -> None:
        super().__init__(
            "other requests for this user kept interfering; nothing was written, try again"
        )


class CursorExpired(AuthorityError):
    """A watch can't continue from its position in the events without missing events."""

    def __init__(self) -> None:
        super().__init__(
            "events may be missed from here on; drop what you cache and watch again without a"
            " cursor"
        )


class StoreUnavailable(AuthorityError):
    """The store (Redis) can't be reached, is slow, or refuses commands."""

    retry_after = timedelta(milliseconds=500)

    def __init__(self) -> None:
        super().__init__("the session store does not answer; try again")


class NotReplicated(AuthorityError):
    """The primary has written the change, but too few replicas confirmed the change in time."""

    retry_after = timedelta(milliseconds=500)

    def __init__(self) -> None:
        super().__init__(
            "done, but not yet on as many replicas as are wanted: a failover may lose it; the same"
            " call again confirms it"
        )


class DeadlineTooShort(AuthorityError):
    """The caller's deadline left too little time to use the store, or the request took too long to
    arrive. The service did nothing for the request. A health watch raises this exception, too, if
    its caller takes too long to read an answer.
    """

    retry_after = timedelta(0)

    def __init__(
        self, why: str = "the deadline leaves too little time to ask the session store"
    ) -> None:
        super().__init__(why)


class CallerUnknown(AuthorityError):
    """The service does not know the caller. `shown` holds the names in the caller's certificate,
    which go only into the log.
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
    """The server can't trust its answers. There are three possible reasons: its clock is wrong, its
    store is unsafe, or for 5 seconds it could not read its signing keys or its access policy.
    """

    retry_after = timedelta(milliseconds=500)

    def __init__(self) -> None:
        super().__init__("this server can't tell for sure at the moment; try another one, or again")


class Overloaded(AuthorityError):
    """Too many calls or streams are under way. `of_caller` is true if this caller or its connection
    has reached its own limit. `of_caller` is false if the process has reached its limit. A stream
    of an unknown caller also ends with this exception when a new stream takes its slot.
    """

    retry_after = timedelta(milliseconds=100)

    def __init__(self, *, of_caller: bool = False) -> None:
        super().__init__("too many calls are under way; try again")
        self.of_caller = of_caller
