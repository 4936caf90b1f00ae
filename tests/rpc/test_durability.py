"""Every answer to a change says whether replicas have the change, and a caller may require
replicas.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from session_authority.store import Replicas
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import MINUTE, Refusal, Stage, StageWith
from tests.support.backends import valkey
from tests.support.replicas import Pair, replicated

ONE = Replicas(1, timedelta(seconds=8))
ONE_AT_ONCE = Replicas(1, timedelta(milliseconds=50))
REQUEST_ID = "33333333-3333-4333-8333-333333333333"
INSIST: dict[str, Any] = {"require_replicated": True}
NOT_YET = Refusal(
    grpc.StatusCode.UNAVAILABLE,
    "done, but not yet on as many replicas as are wanted: a failover may lose it; the same call"
    " again confirms it",
    "NOT_REPLICATED",
    "session-authority",
    retry_after=timedelta(milliseconds=500),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with replicated(valkey, tmp_path_factory.mktemp("pair")) as pair:
        yield pair


def renewal(signed_in: pb.IssueDeviceResponse, **more: Any) -> pb.RenewSessionRequest:
    token, device_id = signed_in.access_token, signed_in.device.device_id
    return pb.RenewSessionRequest(access_token=token, device_id=device_id, **more)


async def changes(stage: Stage, **asked: Any) -> list[int]:
    """What each kind of change says about its durability."""
    signed_in = await stage.sign_in(**asked)
    device_id = signed_in.device.device_id
    stage.clock.advance(40 * MINUTE)
    assert (await stage.validate(signed_in)).active
    renewed = await stage.call("RenewSession", renewal(signed_in, **asked))
    assert renewed.rotated
    device: dict[str, Any] = {"user_id": "ada", "device_id": device_id}
    claims = {"email": "ada@example.org"}
    update = pb.UpdateSessionRequest(user_id="ada", claims=claims, **asked)
    updated = [await stage.call("UpdateSession", update) for _ in range(2)]
    named = await stage.call("UpdateDevice", pb.UpdateDeviceRequest(**device, **asked))
    revoked = await stage.call("RevokeDevice", pb.RevokeDeviceRequest(**device, **asked))
    assert revoked.revoked
    all_revoked = await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="ada", **asked))
    return [each.durability for each in (signed_in, renewed, *updated, named, revoked, all_revoked)]


async def test_a_change_that_replicas_have_is_reported_as_durable(
    pair: Pair, stage_with: StageWith
):
    stage = await stage_with(pair.primary, replicas=ONE)
    assert await changes(stage, **INSIST) == [pb.DURABILITY_REPLICATED] * 7


async def test_a_change_that_replicas_lack_is_reported_as_not_durable(
    pair: Pair, stage_with: StageWith
):
    stage = await stage_with(pair.primary, replicas=ONE_AT_ONCE)
    with pair.replica_stands_still():
        assert await changes(stage) == [pb.DURABILITY_LOCAL] * 7


async def test_a_caller_that_requires_replicas_gets_an_error_until_they_have_the_change(
    pair: Pair, stage_with: StageWith
):
    """The change was made although the call failed. The same call again confirms the change, and
    makes no second session.
    """
    stage = await stage_with(pair.primary, replicas=ONE_AT_ONCE)
    sign_in = pb.IssueDeviceRequest(user_id="ada", request_id=REQUEST_ID, **INSIST)
    with pair.replica_stands_still():
        assert await stage.refused("IssueDevice", sign_in) == NOT_YET
        assert await stage.refused("IssueDevice", sign_in) == NOT_YET
    stage.store.replicas = ONE
    signed_in = await stage.call("IssueDevice", sign_in)
    assert signed_in.durability == pb.DURABILITY_REPLICATED
    assert (await stage.call("ListDevices", pb.ListDevicesRequest(user_id="ada"))).total_size == 1
    stage.clock.advance(40 * MINUTE)
    assert (await stage.validate(signed_in)).active

    stage.store.replicas = ONE_AT_ONCE
    with pair.replica_stands_still():
        refused = await stage.refused("RenewSession", renewal(signed_in, **INSIST))
        assert refused == NOT_YET
        revoke = pb.RevokeAllRequest(user_id="ada", **INSIST)
        assert await stage.refused("RevokeAll", revoke) == NOT_YET
        assert await stage.refused("RevokeAll", revoke) == NOT_YET
        assert not (await stage.validate(signed_in)).active
    stage.store.replicas = ONE
    assert (await stage.call("RevokeAll", revoke)).durability == pb.DURABILITY_REPLICATED


async def test_a_renewal_that_is_repeated_gets_its_token(pair: Pair, stage_with: StageWith):
    stage = await stage_with(pair.primary, replicas=ONE_AT_ONCE)
    signed_in = await stage.sign_in()
    stage.clock.advance(40 * MINUTE)
    assert (await stage.validate(signed_in)).active
    with pair.replica_stands_still():
        refused = await stage.refused("RenewSession", renewal(signed_in, **INSIST))
        assert refused == NOT_YET
    stage.store.replicas = ONE
    renewed = await stage.call("RenewSession", renewal(signed_in, **INSIST))
    assert renewed.session.generation == 2
    assert renewed.access_token
    assert renewed.durability == pb.DURABILITY_REPLICATED


async def test_a_call_that_writes_nothing_has_no_durability(pair: Pair, stage_with: StageWith):
    stage = await stage_with(pair.primary, replicas=ONE)
    signed_in = await stage.sign_in()
    unchanged = await stage.call("RenewSession", renewal(signed_in, **INSIST))
    await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="ada"))
    denied = await stage.call("RenewSession", renewal(signed_in, **INSIST))
    assert denied.status == pb.SESSION_STATUS_NO_SESSION
    for answer in (unchanged, denied):
        assert answer.durability == pb.DURABILITY_UNSPECIFIED


async def test_replicas_cannot_be_required_where_the_service_waits_for_none(stage: Stage):
    """The refused call changes nothing."""
    sign_in = pb.IssueDeviceRequest(user_id="ada", **INSIST)
    refused = await stage.refused("IssueDevice", sign_in)
    rule = "this service waits for no replicas (its setting REPLICAS_ACK is 0)"
    assert (refused.code, refused.violations) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        (("require_replicated", rule),),
    )
    assert await stage.dump() == {}
    assert await changes(stage) == [pb.DURABILITY_LOCAL] * 7
