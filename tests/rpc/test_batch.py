"""A batch equals as many single validations: in order, and no item affects another."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.requests import Presented
from session_authority.v1 import errors_pb2
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import Stage

Request = pb.ValidateSessionRequest


async def batch(stage: Stage, requests: list[Any]) -> list[pb.BatchValidateSessionsResult]:
    answer = await stage.call(
        "BatchValidateSessions", pb.BatchValidateSessionsRequest(requests=requests)
    )
    return list(answer.results)


def asked(signed_in: pb.IssueDeviceResponse, **more: Any) -> Request:
    return Request(
        **{"access_token": signed_in.access_token, "device_id": signed_in.device.device_id, **more}
    )


async def test_each_answer_equals_that_of_a_single_validation(stage: Stage):
    ada, bob, eve = [await stage.sign_in(user_id) for user_id in ("ada", "bob", "eve")]
    await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="eve"))
    requests = [
        asked(bob),
        Request(),
        asked(eve),
        asked(ada),
        asked(ada, access_token="no token"),
        asked(bob, device_id=ada.device.device_id, observe_only=True),
        asked(bob, device_id=""),
    ]
    results = await batch(stage, requests)
    single = [await stage.call("ValidateSession", request) for request in requests]
    for result, response in zip(results, single, strict=True):
        assert result.WhichOneof("outcome") == "response"
        if response.device_id_assigned:
            assert result.response.device_id != response.device_id, (
                "a fresh ID was handed out twice"
            )
            result.response.device_id = response.device_id
        assert result.response == response
    statuses = [pb.SessionStatus.Name(result.response.status) for result in results]
    assert [status.removeprefix("SESSION_STATUS_") for status in statuses] == [
        "ACTIVE", "TOKEN_MISSING", "NO_SESSION", "ACTIVE", "TOKEN_INVALID", "REPLAYED",
        "NO_SESSION",
    ]  # fmt: skip


async def test_500_items_keep_their_order(stage: Stage):
    signed_in = [await stage.sign_in(f"user-{number}") for number in range(20)]
    requests = [asked(signed_in[number * 7 % 20]) for number in range(500)]
    results = await batch(stage, requests)
    assert [r.response.session.user_id for r in results] == [
        f"user-{number * 7 % 20}" for number in range(500)
    ]
    assert {r.response.status for r in results} == {pb.SESSION_STATUS_ACTIVE}
    assert stage.counted("BatchValidateSessions") == {"OK": 1}


@pytest.mark.parametrize(
    ("raised", "code", "reason"),
    [
        (
            RuntimeError("redis://:hunter2@store"),
            grpc.StatusCode.INTERNAL,
            errors_pb2.ERROR_REASON_INTERNAL,
        ),
        (
            StoreUnavailable(),
            grpc.StatusCode.UNAVAILABLE,
            errors_pb2.ERROR_REASON_STORE_UNAVAILABLE,
        ),
        (TimeoutError(), grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_STORE_UNAVAILABLE),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_faulty_item_affects_no_other(
    stage: Stage,
    logged: list[dict[str, Any]],
    raised: Exception,
    code: grpc.StatusCode,
    reason: int,
):
    ada = await stage.sign_in("ada")
    sound = stage.authority.validate_session

    async def faulty(presented: Presented, **more: Any) -> Any:
        if presented.access_token == "boom":
            raise raised
        return await sound(presented, **more)

    stage.authority.validate_session = faulty  # type: ignore[method-assign]
    results = await batch(stage, [asked(ada), Request(access_token="boom"), asked(ada)] * 50)
    for number, result in enumerate(results):
        if number % 3 == 1:
            assert (result.error.code, result.error.reason) == (code.value[0], reason)
            assert not result.error.field_violations
        else:
            assert result.response.active
    assert "hunter2" not in str(results) + str(logged)
    faults = [entry for entry in logged if entry["event"] == "internal_error"]
    assert len(faults) == (50 if code is grpc.StatusCode.INTERNAL else 0)
    assert len({entry["error_id"] for entry in faults}) == len(faults)
    assert stage.counted("BatchValidateSessions") == {"OK": 1}


async def test_an_alarm_in_a_batch_is_raised_once(stage: Stage):
    stolen = await stage.sign_in("ada")
    others = [await stage.sign_in("ada") for _ in range(3)]
    elsewhere = others[0].device.device_id
    results = await batch(stage, [asked(stolen, device_id=elsewhere)] * 20)
    statuses = {r.response.status for r in results}
    assert statuses <= {pb.SESSION_STATUS_REPLAYED, pb.SESSION_STATUS_NO_SESSION}
    assert sum(r.response.revoked_devices for r in results) == 4
    for signed_in in (stolen, *others):
        assert (await stage.validate(signed_in)).status == pb.SESSION_STATUS_NO_SESSION
