"""CheckSessions: whether sessions are live, by their names. It needs no token, and changes
nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import pytest

from session_authority.domain.errors import StoreUnavailable
from session_authority.v1 import errors_pb2
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import Stage
from tests.rpc.requests import ELSEWHERE, LAPTOP

ACTIVE, NO_SESSION = pb.SESSION_STATUS_ACTIVE, pb.SESSION_STATUS_NO_SESSION
ENDED, EXPIRED = pb.SESSION_STATUS_SESSION_ENDED, pb.SESSION_STATUS_SESSION_EXPIRED


def named(signed_in: pb.IssueDeviceResponse, user_id: str = "ada", **more: Any) -> pb.SessionName:
    device = signed_in.device
    given = {"device_id": device.device_id, "session_id": device.session_id, **more}
    return pb.SessionName(user_id=user_id, **given)


async def check(stage: Stage, *names: pb.SessionName) -> list[pb.CheckSessionsResult]:
    answer = await stage.call("CheckSessions", pb.CheckSessionsRequest(sessions=names))
    return list(answer.results)


async def statuses(stage: Stage, *names: pb.SessionName) -> list[pb.SessionStatus]:
    return [result.state.status for result in await check(stage, *names)]


async def test_each_session_has_its_state_in_order(stage: Stage):
    ada, bob, eve = [await stage.sign_in(user_id) for user_id in ("ada", "bob", "eve")]
    await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="eve"))
    old = await stage.sign_in("ada", LAPTOP)
    new = await stage.sign_in("ada", LAPTOP)
    assert await statuses(
        stage,
        named(bob, "bob"),
        named(eve, "eve"),
        named(ada),
        named(old),
        named(new),
        named(new, device_id=ELSEWHERE),
        named(new, "bob"),
        named(new, session_id="0" * 32),
    ) == [ACTIVE, NO_SESSION, ACTIVE, ENDED, ACTIVE, NO_SESSION, NO_SESSION, ENDED]  # fmt: skip


async def test_a_live_session_reports_its_ends(stage: Stage):
    ada = await stage.sign_in("ada")
    (result,) = await check(stage, named(ada))
    assert result.state.expire_time == ada.device.expire_time
    assert result.state.absolute_expire_time == ada.device.absolute_expire_time


async def test_a_session_outlives_its_token_and_is_not_used_by_a_check(stage: Stage):
    ada = await stage.sign_in("ada")
    before = await stage.dump()
    stage.clock.advance(timedelta(days=6, hours=23))
    assert (await stage.validate(ada)).status == pb.SESSION_STATUS_TOKEN_EXPIRED
    assert await statuses(stage, named(ada)) == [ACTIVE]
    assert await stage.dump() == before
    stage.clock.advance(timedelta(hours=2))
    assert await statuses(stage, named(ada)) == [EXPIRED]
    assert await stage.dump() == before


async def test_a_name_that_breaks_a_rule_fails_alone(stage: Stage):
    ada = await stage.sign_in("ada")
    bad = pb.SessionName(user_id="", device_id="laptop", session_id="0" * 31)
    good, broken = await check(stage, named(ada), bad)
    assert good.state.status == ACTIVE
    assert broken.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert [violation.field for violation in broken.error.field_violations] == [
        "user_id", "device_id", "session_id",
    ]  # fmt: skip


async def test_an_outage_is_an_error_and_no_state(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    ada = await stage.sign_in("ada")

    async def away(*_: Any) -> Any:
        raise StoreUnavailable

    monkeypatch.setattr(stage.authority, "check_session", away)
    (result,) = await check(stage, named(ada))
    assert result.WhichOneof("outcome") == "error"
    assert result.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert result.error.reason == errors_pb2.ERROR_REASON_STORE_UNAVAILABLE
