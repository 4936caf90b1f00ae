"""Acts are recorded with their caller, their user and their outcome, including refused acts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from session_authority.access import new_token
from session_authority.rpc import Observer
from session_authority.rpc.auditing import ACTS
from session_authority.runtime.audit_log import AuditLog
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.access.harness import Enter, Visitor
from tests.rpc.harness import METHODS, Stage
from tests.rpc.requests import GOOD

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def observer(tmp_path: Path) -> Observer:
    return Observer(audit_log=AuditLog(str(tmp_path / "audit.log")))


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """Reads the audit log."""

    def read() -> list[dict[str, Any]]:
        text = (tmp_path / "audit.log").read_text()
        return [json.loads(line) for line in text.splitlines()]

    return read


async def refused(visitor: Visitor, method: str, request: Message) -> None:
    """Makes a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError):
        await visitor.call(method, request)


async def test_a_revocation_is_recorded_with_caller_user_reason_and_address(
    stage: Stage, enter: Enter, lines: Lines
):
    login, account = await enter("login"), await enter("account")
    signed_in = await login.call("IssueDevice", pb.IssueDeviceRequest(user_id="ada"))
    device = signed_in.device.device_id
    request = pb.RevokeDeviceRequest(user_id="ada", device_id=device, reason="lost phone")
    await account.call("RevokeDevice", request)
    await account.call("RevokeAll", pb.RevokeAllRequest(user_id="ada", forget=True))
    one, everywhere = lines()
    assert one["peer"].startswith("ipv4:127.0.0.1:")
    assert len(one["request_id"]) == 32
    told = {name: one[name] for name in one.keys() - {"timestamp", "peer", "request_id"}}
    assert told == {
        "event": "audit",
        "action": "RevokeDevice",
        "outcome": "OK",
        "caller": "account",
        "user_id": "ada",
        "device_id": device,
        "reason": "lost phone",
        "forget": False,
        "revoked": True,
    }
    assert (everywhere["action"], everywhere["forget"]) == ("RevokeAll", True)
    assert everywhere["revoked_devices"] == 0


async def test_a_refused_act_is_recorded(stage: Stage, enter: Enter, lines: Lines):
    request = pb.RevokeAllRequest(user_id="ada")
    for visitor in (await enter("gateway"), await enter(token=new_token())):
        await refused(visitor, "RevokeAll", request)
    account = await enter("account")
    bad = pb.RevokeDeviceRequest(user_id="ada", device_id="x")
    await refused(account, "RevokeDevice", bad)
    found = [(line["outcome"], line.get("caller"), line.get("user_id")) for line in lines()]
    assert found == [
        ("PERMISSION_DENIED", "gateway", None),
        ("UNAUTHENTICATED", None, None),
        ("INVALID_ARGUMENT", "account", "ada"),
    ]


async def test_a_read_by_an_operator_is_recorded(stage: Stage, enter: Enter, lines: Lines):
    login, gateway, ops = [await enter(name) for name in ("login", "gateway", "ops")]
    signed_in = await login.call("IssueDevice", pb.IssueDeviceRequest(user_id="ada"))
    look = pb.ValidateSessionRequest(
        access_token=signed_in.access_token,
        device_id=signed_in.device.device_id,
        observe_only=True,
    )
    await ops.call("ValidateSession", look)
    await ops.call("BatchValidateSessions", pb.BatchValidateSessionsRequest(requests=[look]))
    await refused(gateway, "ValidateSession", look)
    look.observe_only = False
    await gateway.call("ValidateSession", look)
    await ops.call("ListDevices", pb.ListDevicesRequest(user_id="ada"))
    names = ("action", "caller", "outcome", "user_id", "status")
    assert [tuple(line.get(name) for name in names) for line in lines()] == [
        ("ValidateSession", "ops", "OK", "ada", "ACTIVE"),
        ("ValidateSession", "ops", "OK", "ada", "ACTIVE"),
        ("ValidateSession", "gateway", "PERMISSION_DENIED", None, None),
        ("ListDevices", "ops", "OK", "ada", None),
    ]
    assert not [line for line in lines() if signed_in.access_token in str(line)]


async def test_an_operator_s_watch_of_a_user_is_recorded_at_once(
    stage: Stage, enter: Enter, lines: Lines
):
    ops = await enter("ops")
    for user_ids in ([], ["ada", "bob"]):
        watch = ops.watch(request=pb.WatchEventsRequest(user_ids=user_ids))
        await watch.read()
        watch.cancel()
    [line] = lines()
    told = (line["action"], line["caller"], line["outcome"], line["user_ids"])
    assert told == ("WatchEvents", "ops", "OK", ["ada", "bob"])


async def test_values_of_claims_and_names_of_devices_are_not_recorded(
    stage: Stage, enter: Enter, lines: Lines
):
    login, account = await enter("login"), await enter("account")
    signed_in = await login.call("IssueDevice", pb.IssueDeviceRequest(user_id="ada"))
    device = signed_in.device.device_id
    claims = {"email": "ada@example.org"}
    await login.call("UpdateSession", pb.UpdateSessionRequest(user_id="ada", claims=claims))
    name = pb.UpdateDeviceRequest(user_id="ada", device_id=device, display_name="Ada's phone")
    await account.call("UpdateDevice", name)
    updated, named = lines()
    assert (updated["claims"], updated["updated_sessions"]) == (["email"], 1)
    assert named["device_id"] == device
    assert not [text for text in ("ada@example.org", "Ada's phone") if text in str(lines())]


@pytest.mark.one_acceptor
def test_every_rpc_that_names_a_user_is_an_act_or_a_sign_in():
    naming = {name for name, m in METHODS.items() if "user_id" in m.input_type.fields_by_name}
    assert naming == {*ACTS, "IssueDevice"}
    for name, act in ACTS.items():
        assert set(act.request) <= set(METHODS[name].input_type.fields_by_name)
        assert set(act.response) <= set(METHODS[name].output_type.fields_by_name)
    assert GOOD.keys() >= ACTS.keys()
