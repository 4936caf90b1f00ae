"""The history: every call with its answer, every event, every fault, by one monotonic clock.

Nothing is judged here. `checker` judges a history, and `recorder` writes one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """The kind of a call."""

    SIGN_IN = "IssueDevice"
    VALIDATE = "ValidateSession"
    RENEW = "RenewSession"
    LIST = "ListDevices"
    REVOKE_DEVICE = "RevokeDevice"
    REVOKE_ALL = "RevokeAll"


class Role(Enum):
    """The role of the client that made a call."""

    HONEST = "honest"
    """The browser that the token was made for, or the page of its user."""
    THIEF = "thief"
    """A client that has copied a token."""
    ONLOOKER = "onlooker"
    """An operator who reads and changes nothing (`observe_only`)."""


# Codes of calls that may have been carried out, although no answer says so.
UNKNOWN = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL"}
# A damaged record is recorded as a call. This is the name of the call's server.
DAMAGE = "damage"
# How late a busy machine may be, in seconds.
_LAG = 10.0
# Reasons which promise that nothing was done.
NOTHING_DONE = {"DEADLINE_TOO_SHORT", "NOT_READY", "OVERLOADED", "CONFLICT"}


@dataclass(frozen=True, slots=True)
class Token:
    """The content of an access token. `device` is the device ID that it was made for."""

    user: str
    device: str
    session: str
    generation: int
    copy: str


@dataclass(frozen=True, slots=True)
class Named:
    """The session that an answer names."""

    user: str
    device: str
    session: str
    generation: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call and its answer. Times are seconds of the monotonic clock."""

    number: int
    """Events name the call that made them by this number."""
    kind: Kind
    role: Role
    server: str
    user: str
    device: str
    """The presented device ID. Of a RevokeAll, the device that stays signed in, if there is one."""
    started: float
    ended: float
    outcome: str
    """OK, a `SessionStatus` without its prefix, or the name of a gRPC code."""
    reason: str = ""
    """The `ErrorReason` of an error."""
    presented: Token | None = None
    given: Token | None = None
    named: Named | None = None
    revoked: int = 0
    listed: tuple[tuple[str, str], ...] = ()
    """The signed-in devices of a list with their sessions."""
    request: str = ""
    """The `request_id` of a sign-in."""
    cached: bool = False
    """The answer may come from a near cache."""
    replicated: bool = False
    """The answer says that the replicas have the change."""

    @property
    def is_unknown(self) -> bool:
        """The call may or may not have been carried out."""
        return self.outcome in UNKNOWN and self.reason not in NOTHING_DONE

    @property
    def failed(self) -> bool:
        """The call ended with an error, and so says nothing about a session."""
        return self.outcome in ERRORS


ERRORS = UNKNOWN | {
    *("ABORTED", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "PERMISSION_DENIED"),
    *("RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNIMPLEMENTED", "DATA_LOSS", "ALREADY_EXISTS"),
    "FAILED_PRECONDITION",
}


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the log. `call` is the number of the call that made it, if the event says so."""

    event_id: str
    type: str
    user: str
    session: str = ""
    call: int | None = None
    at: float = field(default=0.0, compare=False)
    """The time of the event, by the server's clock. The calls have another clock, so an event and
    its call never have exactly the same time.
    """


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was made, from its start until it was over."""

    name: str
    started: float
    ended: float
    holds_requests: bool = False
    """Requests may wait in front of a server until it goes on, or is started again."""
    ends_watches: bool = False
    """The log may have lost entries, or may be another one, so watches end with CURSOR_EXPIRED."""
    loses_writes: bool = False
    """Writes that were acknowledged with durability LOCAL may be lost, as the docs say."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The service's settings that the checks know, and the limits that its docs name, in
    seconds.
    """

    durable_after: float
    alarm_after: float
    longest_flight: float
    """How long an honest request and its reply may be under way together."""
    cache_bound: float = 15.0
    """How long a near cache may answer "active" after a revocation has answered."""
    settle: float = 2.0
    """How long after a fault its effects may last."""


@dataclass
class History:
    """Everything that was recorded during a run."""

    terms: Terms
    calls: list[Call] = field(default_factory=list)
    log: list[Event] = field(default_factory=list)
    """The log of events at the end, with the events of one user in their order."""
    told: dict[str, list[Event]] = field(default_factory=dict)
    """The events that each watcher got, in the order of their arrival."""
    broken_watches: dict[str, int] = field(default_factory=dict)
    """How often each watcher got CURSOR_EXPIRED. It then watches again from its start."""
    faults: list[Fault] = field(default_factory=list)

    @property
    def may_lose(self) -> bool:
        """A fault may have lost acknowledged writes."""
        return any(fault.loses_writes for fault in self.faults)

    def acts_until(self, call: Call) -> float:
        """Until when a call without an answer may still take effect: a store or a server that was
        stopped carries the call out when the store or the server continues.
        """
        ends = (f.ended for f in self.faults if f.started <= call.ended <= f.ended + _LAG)
        return max((call.ended, *ends)) + _LAG

    def lands_at(self, call: Call) -> float:
        """Until when the request may be under way to the service."""
        if not call.is_unknown or call.reason:
            return call.ended
        ends = (f.ended for f in self.faults if f.holds_requests and f.started <= call.ended)
        return max((call.ended, *ends))

    def in_fault(self, moment: float) -> bool:
        """Returns whether a fault was there, or had ended less than `settle` ago."""
        return any(f.started <= moment <= f.ended + self.terms.settle for f in self.faults)

    def by_user(self) -> dict[str, History]:
        """The history of each user alone."""
        parts: dict[str, History] = {}

        def part(user: str) -> History:
            if user not in parts:
                parts[user] = History(self.terms, faults=self.faults)
            return parts[user]

        for call in self.calls:
            part(call.user).calls.append(call)
        for event in self.log:
            part(event.user).log.append(event)
        return parts


def first_tellings(told: Iterable[Event]) -> list[Event]:
    """The events that a watcher got, without repeats."""
    return list({event.event_id: event for event in told}.values())
