"""Each bad input has an error of its own that helps the caller to mend it, and leaves no trace in
the store.
"""

from __future__ import annotations

import base64
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from session_authority.domain import errors
from session_authority.domain.clients import FormFactor
from session_authority.domain.fields import RESERVED_CLAIMS
from session_authority.domain.verdicts import SessionStatus
from session_authority.rpc import status as rpc_status
from session_authority.v1 import errors_pb2
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import METHODS, Refusal, Stage
from tests.rpc.requests import (
    CASES,
    CLAIM_RULE,
    ELSEWHERE,
    GOOD,
    LAPTOP,
    PAGE_RULE,
    REQUEST_ID,
    WITHOUT_FIELDS,
)


async def refuses(stage: Stage, method: str, request: Message | bytes) -> Refusal:
    """Returns the error, after a check that nothing was written."""
    before, counted = await stage.dump(), stage.counted(method)
    refusal = await stage.refused(method, request)
    assert await stage.dump() == before
    code = refusal.code.name
    assert stage.counted(method) == counted | {code: counted.get(code, 0) + 1}
    return refusal


@pytest.fixture
async def signed_in(stage: Stage) -> pb.IssueDeviceResponse:
    """Ada is signed in on her laptop, so a bad request could change something."""
    return await stage.sign_in("ada", LAPTOP)


@pytest.mark.parametrize("method", sorted({case.method for case in CASES}))
async def test_each_error_names_the_field_and_the_rule(stage: Stage, method: str):
    await stage.sign_in("ada", LAPTOP)
    limits = (("max_seconds", "604800"), ("min_seconds", "120"))
    for case in (case for case in CASES if case.method == method):
        broken = case.broken or case.field
        assert await refuses(stage, method, case.request()) == Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{broken}: {case.rule}",
            "INVALID_REQUEST",
            "session-authority",
            metadata=limits if broken == "idle_timeout" else (),
            violations=((broken, case.rule),),
        ), str(case)


async def test_all_broken_fields_are_named_at_once(stage: Stage):
    request = pb.IssueDeviceRequest(
        claims={"sub": "eve"},
        request_id="again",
    )
    refusal = await refuses(stage, "IssueDevice", request)
    assert [field for field, _ in refusal.violations] == [
        "user_id", "claims.sub", "request_id",
    ]  # fmt: skip
    assert refusal.message == "; ".join(": ".join(violation) for violation in refusal.violations)


async def test_very_many_faults_do_not_make_the_error_too_long(stage: Stage):
    """Details travel as trailers, and clients refuse more than 8 KiB of trailers."""
    request = pb.IssueDeviceRequest(
        user_id="ada", claims={f"é{number}": "" for number in range(3000)}
    )
    refusal = await refuses(stage, "IssueDevice", request)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert ("claims", CLAIM_RULE) in refusal.violations
    reserved = pb.IssueDeviceRequest(
        user_id=" ", claims=dict.fromkeys(RESERVED_CLAIMS, "x"), auth_methods=[""] * 9
    )
    assert (await stage.refused("IssueDevice", reserved)).reason == "INVALID_REQUEST"


def test_the_details_of_any_error_fit_into_the_trailers():
    violations = [errors.FieldViolation(f"claims.{number}", "x" * 60) for number in range(10_000)]
    failure = rpc_status.failure_of(errors.InvalidRequest(violations * 2), "")
    [(_, details)] = failure.status().trailing_metadata
    assert isinstance(details, bytes)
    assert len(base64.b64encode(details)) + len(failure.message) < 8000
    assert failure.violations == tuple(violations[: len(failure.violations)])
    assert len(failure.violations) > 30


async def test_a_page_token_that_is_cut_or_of_another_list_is_refused(stage: Stage):
    for user_id in ("ada", "bob"):
        for _ in range(3):
            await stage.sign_in(user_id)
    first = await stage.call("ListDevices", pb.ListDevicesRequest(user_id="ada", page_size=1))
    token = first.next_page_token
    assert token
    foreign = [
        pb.ListDevicesRequest(user_id="bob", page_token=token),
        pb.ListDevicesRequest(user_id="ada", page_token=token, include_signed_out=True),
        pb.ListDevicesRequest(user_id="ada", page_token=token[:-1]),
        pb.ListDevicesRequest(user_id="ada", page_token=token[1:]),
        pb.ListDevicesRequest(user_id="ada", page_token=token + "A"),
        pb.ListDevicesRequest(
            user_id="ada", page_token=("B" if token[0] == "A" else "A") + token[1:]
        ),
        pb.ListDevicesRequest(
            user_id="ada", page_token=token[:20] + ("B" if token[20] == "A" else "A") + token[21:]
        ),
    ]
    for request in foreign:
        refusal = await stage.refused("ListDevices", request)
        assert (refusal.reason, refusal.violations) == (
            "INVALID_REQUEST",
            (("page_token", PAGE_RULE),),
        )
    assert (
        len(
            (
                await stage.call(
                    "ListDevices", pb.ListDevicesRequest(user_id="ada", page_token=token)
                )
            ).devices
        )
        == 2
    )


@pytest.mark.parametrize(
    "other",
    [
        {"user_id": "ada", "claims": {"email": "a@example.org"}},
        {"user_id": "ada", "auth_methods": ["pwd"]},
        {"user_id": "ada", "device_id": LAPTOP},
        {"user_id": "ada", "session_ttl": Duration(seconds=60)},
    ],
    ids=lambda other: list(other)[-1],
)
async def test_a_request_id_with_another_request_is_refused(stage: Stage, other: dict[str, Any]):
    await stage.sign_in("ada", request_id=REQUEST_ID)
    before = await stage.dump()
    refusal = await stage.refused(
        "IssueDevice", pb.IssueDeviceRequest(request_id=REQUEST_ID, **other)
    )
    assert await stage.dump() == before
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert refusal.message.startswith("request_id: ")


async def test_a_request_id_whose_token_was_used_is_refused(stage: Stage):
    issued = await stage.sign_in("ada", request_id=REQUEST_ID)
    stage.clock.advance(stage.authority.limits.durable_after)
    await stage.validate(issued)
    await stage.authority.settled()
    before = await stage.dump()
    refusal = await stage.refused(
        "IssueDevice", pb.IssueDeviceRequest(user_id="ada", request_id=REQUEST_ID)
    )
    assert await stage.dump() == before
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "REQUEST_ID_SPENT")


async def test_an_unknown_device_cannot_be_renamed(stage: Stage, signed_in: pb.IssueDeviceResponse):
    request = pb.UpdateDeviceRequest(user_id="ada", device_id=ELSEWHERE, display_name="x")
    refusal = await refuses(stage, "UpdateDevice", request)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "DEVICE_NOT_FOUND")
    assert (refusal.violations, refusal.retry_after) == ((), None)


async def test_claims_of_a_device_without_a_session_cannot_be_changed(
    stage: Stage, signed_in: pb.IssueDeviceResponse
):
    request = pb.UpdateSessionRequest(user_id="ada", device_id=ELSEWHERE, claims={"name": "Ada"})
    refusal = await refuses(stage, "UpdateSession", request)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert (refusal.violations, refusal.retry_after) == ((), None)


@pytest.mark.parametrize("device_id", ["", "laptop", LAPTOP[:-1], "x" * 5000, f"{LAPTOP};"])
async def test_a_malformed_device_id_of_a_client_is_replaced(
    stage: Stage, signed_in: pb.IssueDeviceResponse, device_id: str
):
    """The end user's browser sent it, so it is no fault of the caller."""
    answer = await stage.validate(signed_in, device_id=device_id)
    assert (answer.active, answer.status) == (False, pb.SESSION_STATUS_NO_SESSION)
    assert answer.device_id_assigned
    assert answer.device_id not in ("", LAPTOP, device_id)

    renewal = pb.RenewSessionRequest(access_token=signed_in.access_token, device_id=device_id)
    assert (await stage.call("RenewSession", renewal)).status == pb.SESSION_STATUS_NO_SESSION

    issued = await stage.sign_in("ada", device_id)
    assert issued.device_id_assigned
    assert issued.device.device_id not in ("", LAPTOP, device_id)
    assert (await stage.validate(signed_in)).active


@pytest.mark.parametrize(
    "token",
    ["x" * 5120, "ä.ö.ü", "a.b.c", " ", "\0"],
    ids=["5 KiB", "umlauts", "abc", "space", "NUL"],
)
async def test_a_malformed_token_is_a_verdict_and_no_error(
    stage: Stage, signed_in: pb.IssueDeviceResponse, token: str
):
    before = await stage.dump()
    answer = await stage.validate(signed_in, access_token=token)
    renewal = pb.RenewSessionRequest(access_token=token, device_id=LAPTOP)
    renewed = await stage.call("RenewSession", renewal)
    assert answer.status == renewed.status == pb.SESSION_STATUS_TOKEN_INVALID
    assert not answer.HasField("session")
    assert await stage.dump() == before


# --- the message itself ---------------------------------------------------------------------------

TOO_LARGE = dict.fromkeys(METHODS, 64 * 1024) | {
    "BatchValidateSessions": 4 * 1024 * 1024,
    "CheckSessions": 1024 * 1024,
    "WatchEvents": 1024 * 1024,
}


def padded(method: str, size: int) -> bytes:
    """A valid request of this size, with an unknown field, which a receiver must skip."""
    body: bytes = GOOD[method]().SerializeToString()
    for length_bytes in (1, 2, 3, 4):
        filling = size - len(body) - 2 - length_bytes
        header = bytes([0xFA, 0x7F]) + _varint(filling)  # Field 2047, length-delimited.
        if len(body) + len(header) + filling == size:
            return body + header + bytes(filling)
    raise AssertionError("no such size")


def _varint(number: int) -> bytes:
    digits = b""
    while number > 127:
        digits += bytes([number & 127 | 128])
        number >>= 7
    return digits + bytes([number])


@pytest.mark.parametrize("method", METHODS)
async def test_bytes_that_are_no_message_are_refused(stage: Stage, method: str):
    for body in (b"\xff\xff\xff", b"\x0a\x05abc", b"\x0f"):
        assert await refuses(stage, method, body) == Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            "the request is not a well-formed message of this method",
            "MALFORMED_MESSAGE",
            "session-authority",
        )


@pytest.mark.parametrize("method", [name for name in METHODS if name not in WITHOUT_FIELDS])
async def test_text_that_is_not_utf_8_is_refused(stage: Stage, method: str):
    not_utf_8 = b"\x0a\x02\xc3\x28"  # Field 1, which is text.
    if method in ("BatchValidateSessions", "CheckSessions"):
        not_utf_8 = b"\x0a\x04" + not_utf_8
    assert (await refuses(stage, method, not_utf_8)).reason == "MALFORMED_MESSAGE"


@pytest.mark.parametrize("method", METHODS)
async def test_a_message_up_to_the_method_s_limit_is_accepted_and_no_larger_one(
    stage: Stage, method: str
):
    if method == "UpdateDevice":
        await stage.sign_in("ada", LAPTOP)
    limit = TOO_LARGE[method]
    await stage.call(method, padded(method, limit))
    refusal = await stage.refused(method, padded(method, limit + 1))
    assert refusal == Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"the request has {limit + 1} bytes; this method takes at most {limit}",
        "MESSAGE_TOO_LARGE",
        "session-authority",
    )
    taken = "CANCELLED" if METHODS[method].server_streaming else "OK"
    assert stage.counted(method) == {taken: 1, "RESOURCE_EXHAUSTED": 1}


@pytest.mark.parametrize("method", ["IssueDevice", "BatchValidateSessions"])
async def test_a_message_that_every_method_refuses_is_not_read(stage: Stage, method: str):
    refusal = await stage.refused(method, padded(method, 5 * 1024 * 1024))
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    # gRPC reports that no message came, and at about the same time that the call has ended. Either
    # report may be the first.
    assert stage.counted(method) in ({"INVALID_ARGUMENT": 1}, {"CANCELLED": 1})
    await stage.sign_in()


@pytest.mark.parametrize(
    "method",
    [
        "IssueDevices",
        "issuedevice",
        "/session_authority.v2.SessionAuthorityService/IssueDevice",
        "/IssueDevice",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_an_unknown_method_is_unimplemented(stage: Stage, method: str):
    refusal = await stage.refused(method, GOOD["IssueDevice"]())
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
    assert method.rpartition("/")[2] not in str(list(stage.metrics.registry.collect())), (
        "made-up names of methods could fill the memory"
    )
    assert await stage.dump() == {}


# --- completeness ---------------------------------------------------------------------------------


def test_every_method_has_bad_input_cases():
    assert set(GOOD) == set(METHODS)
    only_verdicts = {"RenewSession", "ValidateSession"}  # Any input of an end user gets a verdict.
    assert {case.method for case in CASES} | set(WITHOUT_FIELDS) | only_verdicts == set(METHODS)
    for method in WITHOUT_FIELDS:
        assert not METHODS[method].input_type.fields


def test_every_field_of_every_request_has_a_case_or_accepts_every_value():
    anything_goes = {
        "IssueDevice.device_id",  # Sent by the end user: a malformed one is replaced.
        "RenewSession.device_id",
        "ValidateSession.device_id",
        "RenewSession.access_token",  # A bad one gets a verdict.
        "ValidateSession.access_token",
        "RevokeDevice.reason",  # Only displayed.
        "RevokeAll.reason",
        *(f"client.{part.name}" for part in pb.ClientInfo.DESCRIPTOR.fields),  # Only displayed.
    }
    tried = {f"{case.method}.{case.field}" for case in CASES} | {
        case.field for case in CASES if "." in case.field
    }
    for name, method in METHODS.items():
        for field in method.input_type.fields:
            if field.type == FieldDescriptor.TYPE_BOOL:
                continue
            if field.message_type is pb.ClientInfo.DESCRIPTOR:
                wanted = {f"client.{part.name}" for part in field.message_type.fields}
            else:
                wanted = {f"{name}.{field.name}"}
            assert wanted <= tried | anything_goes


def test_every_reason_comes_from_an_error_and_every_error_has_one():
    reasons = [reason for _, reason in rpc_status._TABLE.values()]
    assert len(set(reasons)) == len(reasons), "two errors share a reason"
    unsaid = {errors_pb2.ERROR_REASON_UNSPECIFIED, errors_pb2.ERROR_REASON_INTERNAL}
    assert set(reasons) | unsaid == set(errors_pb2.ErrorReason.values())
    assert set(rpc_status._TABLE) == set(errors.AuthorityError.__subclasses__())
    assert not [e for e in rpc_status._TABLE if e.__subclasses__()], (
        "the table has exact types, and no subclasses"
    )


def test_the_enums_of_the_contract_equal_those_of_the_domain():
    statuses = {name.removeprefix("SESSION_STATUS_") for name in pb.SessionStatus.keys()}  # noqa: SIM118 - no mapping
    assert statuses - {"UNSPECIFIED"} == {status.name for status in SessionStatus}
    factors = {name.removeprefix("FORM_FACTOR_") for name in pb.FormFactor.keys()}  # noqa: SIM118 - no mapping
    assert factors - {"UNSPECIFIED"} == {factor.name for factor in FormFactor} - {"UNKNOWN"}
