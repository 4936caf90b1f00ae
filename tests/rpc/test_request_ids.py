"""A call has an ID, from its caller or made by the service. The ID is returned, and stands in the
log. A validation, a renewal or a check of sessions that succeeds has an ID only if calls are
observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from session_authority.rpc import Observer
from session_authority.rpc.request_ids import HEADER
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import LogStream, Stage, StageWith

LIST = pb.ListDevicesRequest(user_id="ada")
FORGED = (
    "two words",
    "a" * 129,
    "",
    'x","level":"error',
)


async def returned(stage: Stage, method: str, request: Any, *sent: str) -> list[str]:
    """The IDs that come back with the answer to a call, or with its refusal."""
    call = stage.start(method, request, metadata=[(HEADER, value) for value in sent])
    await call.code()
    return [str(value) for name, value in await call.trailing_metadata() if name == HEADER]


async def test_a_caller_gets_its_id_back(stage: Stage):
    assert await returned(stage, "ListDevices", LIST, "web-7f/3") == ["web-7f/3"]
    assert await returned(stage, "ListDevices", pb.ListDevicesRequest(), "bad-8") == ["bad-8"]


@pytest.mark.parametrize("sent", [(), *((text,) for text in FORGED), ("one", "two")])
async def test_a_call_without_a_valid_id_gets_one(stage: Stage, sent: Sequence[str]):
    first, second = [await returned(stage, "ListDevices", LIST, *sent) for _ in range(2)]
    assert [len(value) for value in (*first, *second)] == [32, 32]
    assert first != second


async def test_a_refused_validation_has_an_id_too(stage: Stage):
    [made] = await returned(stage, "BatchValidateSessions", pb.BatchValidateSessionsRequest())
    assert len(made) == 32
    none = pb.BatchValidateSessionsRequest()
    assert await returned(stage, "BatchValidateSessions", none, "mine") == ["mine"]


async def test_a_validation_makes_no_id_unless_calls_are_observed(stage_with: StageWith):
    quiet, observed = await stage_with(), await stage_with(observer=Observer(access_log=True))
    request = pb.ValidateSessionRequest()
    assert await returned(quiet, "ValidateSession", request, "mine") == []
    assert await returned(observed, "ValidateSession", request, "mine") == ["mine"]


async def test_a_stream_has_an_id(stage: Stage):
    refused = stage.watch(pb.WatchEventsRequest(cursor="nonsense"))
    assert await refused.code() is not grpc.StatusCode.OK
    [made] = [value for name, value in await refused.trailing_metadata() if name == HEADER]
    assert len(made) == 32


@pytest.mark.parametrize("method", ["ListDevices", "ValidateSession"])
async def test_a_fault_is_found_in_the_log_by_the_id(
    stage: Stage, method: str, structured: LogStream
):
    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    stage.authority.list_devices = fail  # type: ignore[method-assign]
    stage.authority.kept_answer = fail  # type: ignore[method-assign]
    request = LIST if method == "ListDevices" else pb.ValidateSessionRequest()
    [made] = await returned(stage, method, request)
    [line] = structured.lines("internal_error")
    assert line["request_id"] == made
