"""Access over the wire: every caller at every RPC, and visitors with wrong credentials."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from session_authority.access import everybody, new_token
from session_authority.domain.errors import CallerNotAllowed
from session_authority.rpc import Authorizer
from session_authority.v1 import errors_pb2
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.access.harness import (
    ANSWERED,
    MAY_CALL,
    METHODS,
    POLICY,
    PUBLIC,
    UNKNOWN,
    Enter,
    body_of,
    not_allowed,
    outcomes,
    path_of,
)
from tests.rpc.harness import PATIENCE, Refusal, Stage, refusal_of

# --- every caller, every RPC ----------------------------------------------------------------------


def test_every_kind_of_caller_is_tested():
    callers = {
        line.removeprefix("[callers.").rstrip("]")
        for line in POLICY.splitlines()
        if line.startswith("[")
    }
    assert set(MAY_CALL) == callers
    assert PUBLIC | {path_of(name) for name in MAY_CALL["ops"]} == set(METHODS)


@pytest.mark.parametrize("name", sorted(MAY_CALL))
async def test_a_caller_may_call_the_rpcs_of_its_policy_and_no_others(
    stage: Stage, enter: Enter, name: str
):
    allowed = PUBLIC | {path_of(method) for method in MAY_CALL[name]}
    wanted = {path: ANSWERED if path in allowed else not_allowed(path) for path in METHODS}
    found = await outcomes(await enter(name))
    update = path_of("UpdateDevice")
    if update in allowed:
        assert (found[update].code, found[update].reason) == (
            grpc.StatusCode.NOT_FOUND,
            "DEVICE_NOT_FOUND",
        )
        wanted[update] = found[update]
    assert found == wanted


async def test_an_unknown_caller_may_check_health_and_nothing_else(enter: Enter):
    wanted = {path: ANSWERED if path in PUBLIC else UNKNOWN for path in METHODS}
    assert await outcomes(await enter()) == wanted
    assert await outcomes(await enter(token=new_token())) == wanted


def test_an_rpc_without_a_row_is_refused_to_every_caller():
    context: Any = SimpleNamespace(
        peer=lambda: "ipv4:127.0.0.1:5",
        trailing_metadata=tuple,
        invocation_metadata=tuple,
        set_trailing_metadata=lambda _: None,
    )
    for path in ("/session_authority.v1.SessionAuthorityService/New", "", "/"):
        with pytest.raises(CallerNotAllowed):
            Authorizer(everybody).admit(path, context)


async def test_a_refused_call_changes_nothing(stage: Stage, enter: Enter):
    login, ops = await enter("login"), await enter("ops")
    signed_in = await login.call("IssueDevice", pb.IssueDeviceRequest(user_id="ada"))
    before = await stage.dump()
    for name in ("gateway", "notifier", "auditor"):
        visitor = await enter(name)
        for method in ("IssueDevice", "RevokeAll", "RevokeDevice", "UpdateDevice"):
            assert (await visitor.outcome(method)).code is grpc.StatusCode.PERMISSION_DENIED
    nobody = await enter()
    for method in ("IssueDevice", "RevokeAll"):
        assert await nobody.outcome(method) == UNKNOWN
    assert await stage.dump() == before
    ask = pb.ValidateSessionRequest(
        access_token=signed_in.access_token, device_id=signed_in.device.device_id
    )
    assert (await ops.call("ValidateSession", ask)).active


@pytest.mark.parametrize("body", [b"\xff\xff", b"x" * 70_000], ids=["nonsense", "too large"])
async def test_no_request_is_read_before_its_sender_is_known(enter: Enter, body: bytes):
    for visitor, wanted in (
        (await enter("gateway"), not_allowed("IssueDevice")),
        (await enter(), UNKNOWN),
    ):
        call = visitor.channel.unary_unary(path_of("IssueDevice"))(
            body, timeout=PATIENCE, metadata=visitor._metadata
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert refusal_of(caught.value) == wanted


# --- validations without a trace ------------------------------------------------------------------


async def test_only_an_operator_may_validate_without_a_trace(enter: Enter):
    ask = pb.ValidateSessionRequest(observe_only=True)
    assert (
        await (await enter("ops")).call("ValidateSession", ask)
    ).status == pb.SESSION_STATUS_TOKEN_MISSING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (await enter("gateway")).call("ValidateSession", ask)
    assert refusal_of(caught.value) == Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        "the caller may not ask with observe_only",
        "CALLER_NOT_ALLOWED",
        "session-authority",
    )


async def test_an_item_with_observe_only_fails_alone_in_a_batch(enter: Enter):
    asks = [pb.ValidateSessionRequest(observe_only=number == 1) for number in range(3)]
    batch = pb.BatchValidateSessionsRequest(requests=asks)
    results = (await (await enter("gateway")).call("BatchValidateSessions", batch)).results
    assert [result.WhichOneof("outcome") for result in results] == ["response", "error", "response"]
    error = results[1].error
    assert (error.code, error.reason) == (7, errors_pb2.ERROR_REASON_CALLER_NOT_ALLOWED)
    assert error.message == "the caller may not ask with observe_only"
    results = (await (await enter("ops")).call("BatchValidateSessions", batch)).results
    assert [result.WhichOneof("outcome") for result in results] == ["response"] * 3


# --- paths ----------------------------------------------------------------------------------------

ISSUE = path_of("IssueDevice")


@pytest.mark.parametrize(
    "path",
    [
        ISSUE[1:],
        f"/{ISSUE}",
        ISSUE.replace("/IssueDevice", "//IssueDevice"),
        f"{ISSUE}/",
        f"{ISSUE}?x",
        f"{ISSUE}#x",
        f"{ISSUE} ",
        ISSUE.lower(),
        ISSUE.upper(),
        ISSUE.replace("/IssueDevice", "/issueDevice"),
        ISSUE.replace("IssueDevice", "Issue%44evice"),
        ISSUE.replace("/IssueDevice", "%2FIssueDevice"),
        f"{ISSUE}\0",
        ISSUE.replace("IssueDevice", "\0IssueDevice"),
        f"https://127.0.0.1{ISSUE}",
        f"//127.0.0.1{ISSUE}",
        f"/../{ISSUE[1:]}",
        f"/.{ISSUE}",
        f"/grpc.health.v1.Health/Check/..{ISSUE}",
        f"/grpc.health.v1.Health{ISSUE}",
        "/session_authority.v1.SessionAuthorityService/",
        "/session_authority.v1.SessionAuthorityService",
        "/",
        "",
    ],
)
async def test_a_path_that_differs_from_the_path_of_an_rpc_is_unimplemented(
    stage: Stage, enter: Enter, path: str
):
    guard = stage.server._guards[0]
    seen, sound = [], guard.intercept_service

    async def intercept(continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = await sound(continuation, details)
        seen.append((details.method, handler))
        return handler

    guard.intercept_service = intercept  # type: ignore[method-assign]
    visitors = [await enter("login"), await enter("ops"), await enter()]
    for visitor in visitors:
        call = visitor.channel.unary_unary(path)(
            body_of(ISSUE), timeout=PATIENCE, metadata=visitor._metadata
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    # gRPC itself refuses some of these paths.
    assert seen in ([], [(path, guard._no_method)] * len(visitors)), (
        "the path arrives unchanged, and no method has it"
    )
    assert await stage.dump() == {}
