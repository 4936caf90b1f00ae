"""A valid request for each method, and invalid ones: which field breaks which rule."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from session_authority.domain.fields import RESERVED_CLAIMS
from session_authority.v1 import session_authority_pb2 as pb

LAPTOP, ELSEWHERE = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
REQUEST_ID = "33333333-3333-4333-8333-333333333333"

REPLICAS_RULE = "this service waits for no replicas (its setting REPLICAS_ACK is 0)"
UUID_RULE = "must be a UUID, like 123e4567-e89b-42d3-a456-426614174000"
CHARACTERS = "must have no control or other unprintable characters"
SEEN_RULE = "must have a character that can be seen"
IDLE_RULE = "must be from 120 to 604800 seconds"
TTL_RULE = "must be from 1 to 2592000 seconds"
CLAIMS_RULE = "must have at most 1024 bytes as JSON"
URI_RULE = "letters, digits or characters of a URI, like '_', '-', '.', ':', '/' or '#'"
CLAIM_RULE = f"names must be 1 to 128 {URI_RULE}"
METHOD_RULE = f"must be 1 to 128 {URI_RULE}"
CURSOR_RULE = "must be the cursor of a message of an earlier watch"
TYPE_RULE = "must be a type of event that there is"
TIME_RULE = "must be from 1970 to 9999"
PAGE_RULE = "must be the next_page_token of a page of the same list"

GOOD: dict[str, Callable[[], Any]] = {
    "IssueDevice": lambda: pb.IssueDeviceRequest(user_id="ada"),
    "RenewSession": lambda: pb.RenewSessionRequest(access_token="a.b.c", device_id=LAPTOP),
    "ValidateSession": lambda: pb.ValidateSessionRequest(access_token="a.b.c", device_id=LAPTOP),
    "BatchValidateSessions": lambda: pb.BatchValidateSessionsRequest(
        requests=[pb.ValidateSessionRequest()]
    ),
    "UpdateSession": lambda: pb.UpdateSessionRequest(user_id="ada"),
    "CheckSessions": lambda: pb.CheckSessionsRequest(
        sessions=[pb.SessionName(user_id="ada", device_id=LAPTOP, session_id="0" * 32)]
    ),
    "ListDevices": lambda: pb.ListDevicesRequest(user_id="ada"),
    "UpdateDevice": lambda: pb.UpdateDeviceRequest(
        user_id="ada", device_id=LAPTOP, display_name="x"
    ),
    "RevokeDevice": lambda: pb.RevokeDeviceRequest(user_id="ada", device_id=LAPTOP),
    "RevokeAll": lambda: pb.RevokeAllRequest(user_id="ada"),
    "GetSigningKeys": pb.GetSigningKeysRequest,
    "WatchEvents": pb.WatchEventsRequest,
}
WITHOUT_FIELDS = {"GetSigningKeys": "its request has no field"}


@dataclass(frozen=True)
class Case:
    """One field of one method that breaks one rule."""

    method: str
    field: str
    value: Any
    rule: str
    about: str
    broken: str = ""  # The path in the error, if it is not `field`.

    def request(self) -> Message:
        """The valid request, with the bad value."""
        request = GOOD[self.method]()
        place: Any = request
        *parents, last = self.field.split(".")
        for parent in parents:
            place = getattr(place, parent)
        if isinstance(self.value, list):
            del getattr(place, last)[:]
            getattr(place, last).extend(self.value)
        elif isinstance(self.value, dict):
            getattr(place, last).update(self.value)
        elif isinstance(self.value, Message):
            getattr(place, last).CopyFrom(self.value)
        else:
            setattr(place, last, self.value)
        assert isinstance(request, Message)
        return request

    def __str__(self) -> str:
        return f"{self.method}-{self.field}-{self.about}".replace(" ", "_")


def _cases() -> list[Case]:
    cases = []
    characters = f"{CHARACTERS}, and no white space at the ends"
    users = [
        ("", "must not be empty", "empty"),
        ("x" * 256, "must have at most 255 characters", "256 characters"),
        (" ada", characters, "leading space"),
        ("ada\n", characters, "line feed"),
        ("a\tb", characters, "tab"),
        ("a\0b", characters, "NUL"),
        ("a\x7fb", characters, "control"),
        ("a\u00a0", characters, "no-break space"),
        ("a\u202eb", characters, "turned writing direction"),
        ("a\ue000b", characters, "private use"),
    ]
    for method in (
        *("IssueDevice", "UpdateSession"),
        *("ListDevices", "UpdateDevice", "RevokeDevice", "RevokeAll"),
    ):
        cases += [Case(method, "user_id", *user) for user in users]
    devices = [
        ("laptop", UUID_RULE, "word"),
        (LAPTOP[:-1], UUID_RULE, "cut"),
        (LAPTOP.replace("-", "", 1), UUID_RULE, "without one of its dashes"),
        (f"{{{LAPTOP}", UUID_RULE, "one brace"),
        (f"uuid:{LAPTOP}", UUID_RULE, "half a URN"),
        (f"{LAPTOP}\0", UUID_RULE, "NUL"),
        ("00000000-0000-0000-0000-000000000000", UUID_RULE, "nil"),
        ("１" * 8 + LAPTOP[8:], UUID_RULE, "other digits"),
        ("x" * 5000, UUID_RULE, "5000 characters"),
    ]
    for method, field in (
        ("UpdateSession", "device_id"),
        ("ListDevices", "current_device_id"),
        ("UpdateDevice", "device_id"),
        ("RevokeDevice", "device_id"),
        ("RevokeAll", "except_device_id"),
    ):
        cases += [Case(method, field, *device) for device in devices]
    cases += [
        Case(method, "require_replicated", True, REPLICAS_RULE, "no replicas")
        for method in (
            "IssueDevice",
            "RenewSession",
            "UpdateSession",
            "UpdateDevice",
            "RevokeDevice",
            "RevokeAll",
        )
    ]
    cases += [
        Case(method, "device_id", "", UUID_RULE, "empty")
        for method in ("UpdateDevice", "RevokeDevice")
    ]
    claims = [
        ({"note": "x" * 1014}, CLAIMS_RULE, "1025 bytes", ""),
        ({"note": "é" * 507}, CLAIMS_RULE, "1025 bytes of fewer characters", ""),
        ({"note": "\0" * 169}, CLAIMS_RULE, "1025 bytes once escaped", ""),
        ({"": "x"}, CLAIM_RULE, "empty name", ""),
        ({"x" * 129: ""}, CLAIM_RULE, "name of 129", ""),
        ({"e mail": "x"}, CLAIM_RULE, "name with a space", ""),
        ({"é": "x"}, CLAIM_RULE, "name that is not ASCII", ""),
        *(
            ({name: "x"}, "is a reserved name", name, f"claims.{name}")
            for name in sorted(RESERVED_CLAIMS)
        ),
    ]
    for method in ("IssueDevice", "UpdateSession"):
        cases += [Case(method, "claims", *claim) for claim in claims]
    cases += [
        Case("IssueDevice", "auth_methods", ["pwd"] * 9, "must have at most 8 entries", "9"),
        Case("IssueDevice", "auth_methods", ["pwd", ""], METHOD_RULE, "empty", "auth_methods[1]"),
        Case(
            "IssueDevice",
            "auth_methods",
            ["x" * 129],
            METHOD_RULE,
            "129 characters",
            "auth_methods[0]",
        ),
        Case("IssueDevice", "auth_methods", ["one time"], METHOD_RULE, "space", "auth_methods[0]"),
        Case("IssueDevice", "idle_timeout", Duration(), IDLE_RULE, "zero"),
        Case("IssueDevice", "idle_timeout", Duration(seconds=119), IDLE_RULE, "too short"),
        Case("IssueDevice", "idle_timeout", Duration(seconds=604_801), IDLE_RULE, "too long"),
        Case("IssueDevice", "idle_timeout", Duration(seconds=-(2**40)), IDLE_RULE, "absurd"),
        Case("IssueDevice", "session_ttl", Duration(), TTL_RULE, "zero"),
        Case("IssueDevice", "session_ttl", Duration(seconds=-1), TTL_RULE, "negative"),
        Case("IssueDevice", "session_ttl", Duration(nanos=999_999_999), TTL_RULE, "under a second"),
        Case("IssueDevice", "session_ttl", Duration(seconds=2_592_001), TTL_RULE, "too long"),
        Case(
            "IssueDevice",
            "session_ttl",
            Duration(seconds=2_592_000, nanos=1000),
            TTL_RULE,
            "a little too long",
        ),
        Case(
            "IssueDevice",
            "session_ttl",
            Duration(seconds=2**63 - 1, nanos=2**31 - 1),
            TTL_RULE,
            "absurd",
        ),
        Case(
            "IssueDevice",
            "session_ttl",
            Duration(seconds=-(2**63), nanos=-(2**31)),
            TTL_RULE,
            "absurdly negative",
        ),
        Case("IssueDevice", "request_id", "again", "must be a UUID", "word"),
        Case("IssueDevice", "request_id", REQUEST_ID + "0", "must be a UUID", "too long"),
        Case(
            "IssueDevice",
            "request_id",
            "00000000-0000-0000-0000-000000000000",
            "must be a UUID",
            "nil",
        ),
        Case("ListDevices", "page_size", -1, "must not be negative", "negative"),
        Case("ListDevices", "page_size", -(2**31), "must not be negative", "most negative"),
        Case("ListDevices", "page_size", 1001, "must be at most 1000", "1001"),
        Case("ListDevices", "page_size", 2**31 - 1, "must be at most 1000", "huge"),
        Case("ListDevices", "page_token", "2", PAGE_RULE, "made up"),
        Case("ListDevices", "page_token", "💥" * 50, PAGE_RULE, "not ASCII"),
        Case(
            "ListDevices",
            "page_token",
            base64.urlsafe_b64encode(bytes(33)).decode(),
            PAGE_RULE,
            "forged",
        ),
        Case(
            "UpdateDevice",
            "display_name",
            "x" * 101,
            "must have at most 100 characters",
            "101 characters",
        ),
        Case("UpdateDevice", "display_name", "\u200b\u00ad", SEEN_RULE, "nothing to see"),
        Case("BatchValidateSessions", "requests", [], "must be 1 to 500 requests, not 0", "none"),
        Case(
            "BatchValidateSessions",
            "requests",
            [pb.ValidateSessionRequest()] * 501,
            "must be 1 to 500 requests, not 501",
            "501",
        ),
        Case("CheckSessions", "sessions", [], "must be 1 to 500 sessions, not 0", "none"),
        Case(
            "CheckSessions",
            "sessions",
            [pb.SessionName()] * 501,
            "must be 1 to 500 sessions, not 501",
            "501",
        ),
        Case("WatchEvents", "cursor", "2", CURSOR_RULE, "made up"),
        Case("WatchEvents", "cursor", "💥" * 50, CURSOR_RULE, "not ASCII"),
        Case("WatchEvents", "cursor", "A" * 5000, CURSOR_RULE, "too long"),
        Case(
            "WatchEvents",
            "cursor",
            base64.urlsafe_b64encode(bytes(70)).decode(),
            CURSOR_RULE,
            "forged",
        ),
        Case("WatchEvents", "types", [1, 99], TYPE_RULE, "later", "types[1]"),
        Case("WatchEvents", "types", [0], TYPE_RULE, "unspecified", "types[0]"),
        Case("WatchEvents", "user_ids", ["u"] * 1001, "must have at most 1000 entries", "1001"),
        *(
            Case("WatchEvents", "user_ids", ["ada", value], rule, about, "user_ids[1]")
            for value, rule, about in users
        ),
        Case("WatchEvents", "start_time", Timestamp(seconds=-1), TIME_RULE, "before 1970"),
        Case("WatchEvents", "start_time", Timestamp(seconds=2**63 - 1), TIME_RULE, "absurd"),
    ]
    return cases


CASES = _cases()
