"""A replica that lacks the last changes is promoted: sessions that were ended are ended again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import Stage, StageWith
from tests.support.backends import connected, valkey
from tests.support.proxy import Proxy
from tests.support.replicas import Pair, replicated
from tests.support.waiting import eventually, wait_for

LAPTOP = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A primary and its replica for one test alone: the test separates them."""
    with replicated(valkey, tmp_path_factory.mktemp("pair")) as pair:
        yield pair


def promote(pair: Pair) -> None:
    """Makes the replica a primary, once it has all that was written."""
    with (
        redis.Redis.from_url(pair.primary.admin_url) as old,
        redis.Redis.from_url(pair.replica.admin_url) as new,
    ):
        old.set("t", "")
        wait_for(lambda: old.execute_command("WAIT", 1, 1000), "the replica to have it all")
        new.replicaof("NO", "ONE")


async def test_sessions_ended_before_a_failover_are_ended_again(pair: Pair, stage_with: StageWith):
    """These sessions are ended again, and no others."""
    async with Proxy(pair.primary.url) as wire:
        stage: Stage = await stage_with(connected(wire.url))
        ended = [await stage.sign_in("ada"), await stage.sign_in("ada")]
        ended.append(await stage.sign_in("bob"))
        ended.append(await stage.sign_in("carol", LAPTOP))
        spared = [await stage.sign_in("bob"), await stage.sign_in("dave")]
        promote(pair)

        await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="ada", reason="stolen"))
        bobs: Any = {"user_id": "bob", "device_id": ended[2].device.device_id}
        await stage.call("RevokeDevice", pb.RevokeDeviceRequest(**bobs, reason="sold"))
        lost = await stage.sign_in("carol", LAPTOP)
        for signed_in in ended:
            assert not (await stage.validate(signed_in)).active
        await wire.lead_to(pair.replica.url)

        async def over(signed_in: pb.IssueDeviceResponse) -> bool:
            return not await answered(stage, signed_in)

        for signed_in in ended:
            await eventually(lambda: over(signed_in), "the session to be over again")  # noqa: B023
        for signed_in in spared:
            assert (await stage.validate(signed_in)).active
        assert not (await stage.validate(lost)).active
        fresh = await stage.sign_in("ada")
        await stage.authority.reassert()
        assert (await stage.validate(fresh)).active
        assert sorted(await reasons_told(stage)) == ["replaced", "sold", "stolen"]


async def answered(stage: Stage, signed_in: pb.IssueDeviceResponse) -> bool:
    """Returns whether a session is good, once there is an answer."""
    while True:
        try:
            return bool((await stage.validate(signed_in)).active)
        except Exception as error:
            if "UNAVAILABLE" not in str(error):
                raise


async def reasons_told(stage: Stage) -> list[Any]:
    """Why sessions ended, by the event log of the new primary."""
    request = pb.WatchEventsRequest()
    request.start_time.FromDatetime(stage.clock())
    found: list[str] = []
    watch = stage.watch(request)
    kinds = (pb.EVENT_TYPE_ALL_REVOKED, pb.EVENT_TYPE_DEVICE_REVOKED)
    while len(found) < 3:
        message = await watch.read()
        found += [event.reason for event in message.events if event.type in kinds]
    watch.cancel()
    return found
