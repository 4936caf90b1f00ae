"""Each reason and each status of the contract is an exception of its own kind, however it comes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import session_authority_client as sa
from client_tests.harness import PATIENCE, Connect, Fake, fails, refuses
from session_authority.rpc.status import Failure
from session_authority.v1 import errors_pb2
from session_authority_client._shared.failures import error_of_item
from session_authority_client.wire import session_authority_pb2 as wire

REASONS: dict[str, tuple[grpc.StatusCode, type[sa.SessionAuthorityError]]] = {
    "INVALID_REQUEST": (grpc.StatusCode.INVALID_ARGUMENT, sa.InvalidRequest),
    "MALFORMED_MESSAGE": (grpc.StatusCode.INVALID_ARGUMENT, sa.InvalidRequest),
    "MESSAGE_TOO_LARGE": (grpc.StatusCode.RESOURCE_EXHAUSTED, sa.InvalidRequest),
    "REQUEST_ID_REUSED": (grpc.StatusCode.INVALID_ARGUMENT, sa.RequestIdReused),
    "REQUEST_ID_SPENT": (grpc.StatusCode.ABORTED, sa.RequestIdSpent),
    "DEVICE_LIMIT_REACHED": (grpc.StatusCode.RESOURCE_EXHAUSTED, sa.DeviceLimitReached),
    "DEVICE_NOT_FOUND": (grpc.StatusCode.NOT_FOUND, sa.DeviceNotFound),
    "SESSION_NOT_FOUND": (grpc.StatusCode.NOT_FOUND, sa.SessionNotFound),
    "CONFLICT": (grpc.StatusCode.ABORTED, sa.Conflict),
    "STORE_UNAVAILABLE": (grpc.StatusCode.UNAVAILABLE, sa.Unavailable),
    "DEADLINE_TOO_SHORT": (grpc.StatusCode.UNAVAILABLE, sa.Unavailable),
    "NOT_REPLICATED": (grpc.StatusCode.UNAVAILABLE, sa.NotReplicated),
    "INTERNAL": (grpc.StatusCode.INTERNAL, sa.InternalError),
    "CURSOR_EXPIRED": (grpc.StatusCode.OUT_OF_RANGE, sa.CursorExpired),
    "CALLER_UNKNOWN": (grpc.StatusCode.UNAUTHENTICATED, sa.CallerUnknown),
    "CALLER_NOT_ALLOWED": (grpc.StatusCode.PERMISSION_DENIED, sa.CallerNotAllowed),
    "NOT_READY": (grpc.StatusCode.UNAVAILABLE, sa.Unavailable),
    "STOPPING": (grpc.StatusCode.UNAVAILABLE, sa.Unavailable),
    "OVERLOADED": (grpc.StatusCode.RESOURCE_EXHAUSTED, sa.Overloaded),
}
# What is said without a reason: by gRPC, or by something on the way.
CODES = {
    grpc.StatusCode.UNAVAILABLE: sa.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: sa.Unavailable,
    grpc.StatusCode.CANCELLED: sa.Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: sa.Overloaded,
    grpc.StatusCode.INVALID_ARGUMENT: sa.InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: sa.CallerUnknown,
    grpc.StatusCode.PERMISSION_DENIED: sa.CallerNotAllowed,
}


def test_every_reason_is_in_the_table():
    reasons = errors_pb2.ErrorReason.keys()
    names = {name.removeprefix("ERROR_REASON_") for name in reasons}
    assert names - {"UNSPECIFIED"} == set(REASONS)


def failure(reason: str) -> Failure:
    code, _ = REASONS[reason]
    number: Any = errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")
    return Failure(
        code,
        number,
        f"because of {reason}",
        retry_after=PATIENCE,
        metadata=(("error_id", "e1"),),
    )


@pytest.mark.parametrize("reason", REASONS)
async def test_every_reason_has_its_exception(connect: Connect, fake: Fake, reason: str):
    code, kind = REASONS[reason]
    fake.always = refuses(failure(reason))
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.SessionAuthorityError) as caught:
            await authority.list_devices("ada")
        with pytest.raises(sa.SessionAuthorityError) as caught_watching:
            await anext(aiter(authority.watch_events()))
    for error in (caught.value, caught_watching.value):
        assert type(error) is kind
        assert (error.code, error.reason, str(error)) == (code, reason, f"because of {reason}")
        assert (error.retry_after, error.metadata) == (PATIENCE, {"error_id": "e1"})


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_the_same_exception_in_a_batch(reason: str):
    code, kind = REASONS[reason]
    sent = failure(reason).message_of_batch()
    error = error_of_item(wire.RequestError.FromString(sent.SerializeToString()))
    assert type(error) is kind
    assert (error.code, error.reason, str(error)) == (code, reason, f"because of {reason}")


@pytest.mark.parametrize("code", sorted(set(grpc.StatusCode) - {grpc.StatusCode.OK}, key=str))
async def test_a_status_without_a_reason_has_one_too(
    connect: Connect, fake: Fake, code: grpc.StatusCode
):
    fake.always = fails(code, "somebody says no")
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.SessionAuthorityError, match="somebody says no") as caught:
            await authority.get_signing_keys()
    assert type(caught.value) is CODES.get(code, sa.SessionAuthorityError)
    assert (caught.value.code, caught.value.reason, caught.value.violations) == (code, "", ())


def test_only_what_is_no_answer_is_unavailable():
    unsure = {kind for _, kind in REASONS.values() if issubclass(kind, sa.Unavailable)}
    assert unsure == {sa.Unavailable, sa.Overloaded, sa.NotReplicated}


def details(content: bytes) -> Any:
    def act(request: Message, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", content),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "no")

    return act


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xff\xff",
        b"\x1a\x02\x08\x96",
        status_pb2.Status(
            details=[
                any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
            ]
        ).SerializeToString(),
    ],
)
async def test_details_that_are_none_hide_no_error(connect: Connect, fake: Fake, content: bytes):
    fake.always = details(content)
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.Unavailable) as caught:
            await authority.get_signing_keys()
    assert caught.value.reason == ""


async def test_another_services_reasons_are_not_ours(connect: Connect, fake: Fake):
    status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0])
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason="DEVICE_NOT_FOUND", domain="envoy")
    )
    fake.always = details(status.SerializeToString())
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.Unavailable) as caught:
            await authority.get_signing_keys()
    assert (caught.value.reason, caught.value.metadata) == ("", {})


def test_an_error_can_go_from_one_process_to_another():
    violations = [sa.FieldViolation("user_id", "is empty")]
    sent = sa.RequestIdReused(
        "no",
        grpc.StatusCode.ABORTED,
        "X",
        retry_after=PATIENCE,
        violations=violations,
        metadata={"a": "b"},
    )
    for came in (pickle.loads(pickle.dumps(sent)), copy.deepcopy(sent)):
        assert type(came) is sa.RequestIdReused
        assert (str(came), vars(came)) == ("no", vars(sent))


async def test_an_unknown_reason_is_told_by_its_code(connect: Connect, fake: Fake):
    status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0])
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason="TOO_COLD", domain="session-authority")
    )
    fake.always = details(status.SerializeToString())
    async with connect(fake.address, timeout=PATIENCE) as authority:
        with pytest.raises(sa.Unavailable) as caught:
            await authority.get_signing_keys()
    assert caught.value.reason == "TOO_COLD"
    found = error_of_item(wire.RequestError(code=grpc.StatusCode.ABORTED.value[0], message="no"))
    assert (type(found), found.code, found.reason) == (
        sa.SessionAuthorityError,
        grpc.StatusCode.ABORTED,
        "",
    )
