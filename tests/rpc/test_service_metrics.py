"""What the service counts about sessions, its keys, its connections and its watches."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from session_authority.domain.session_limits import DeviceLimitAction
from session_authority.runtime import process_metrics
from session_authority.tokens import Algorithm, KeySource, KeyState, add_key, generate
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import START, Stage, StageWith
from tests.support.waiting import eventually

REQUEST_ID = "1f0c9ab8-3f5e-4d0e-9a34-0f1c2a1f6d5e"

pytestmark = pytest.mark.one_acceptor


def counted(stage: Stage, name: str, label: str) -> dict[str, float]:
    """The values of a counter that are not 0, by one label."""
    return {
        sample.labels[label]: sample.value
        for family in stage.metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"session_authority_{name}" and sample.value
    }


async def test_sign_ins_renewals_and_revocations_are_counted(stage_with: StageWith):
    stage: Stage = await stage_with(max_devices=2)
    first = await stage.sign_in(request_id=REQUEST_ID)
    await stage.sign_in(request_id=REQUEST_ID)
    await stage.sign_in(device_id=first.device.device_id)
    await stage.sign_in()
    await stage.sign_in()  # A third device: the first session makes room for it.
    assert counted(stage, "sign_ins_total", "outcome") == {
        "new_device": 3,
        "known_device": 1,
        "repeated": 1,
    }
    signed_in = await stage.sign_in("bob")
    await stage.call(
        "RenewSession",
        pb.RenewSessionRequest(
            access_token=signed_in.access_token, device_id=signed_in.device.device_id
        ),
    )
    assert counted(stage, "renewals_total", "outcome") == {"active": 1}
    device_id = signed_in.device.device_id
    await stage.call("RevokeDevice", pb.RevokeDeviceRequest(user_id="bob", device_id=device_id))
    await stage.call("RevokeAll", pb.RevokeAllRequest(user_id="bob"))
    keep = pb.RevokeAllRequest(user_id="bob", except_device_id=device_id)
    await stage.call("RevokeAll", keep)
    assert counted(stage, "revocations_total", "kind") == {
        "device": 1,
        "all": 1,
        "all_but_one": 1,
        "evicted": 1,
    }


async def test_a_sign_in_beyond_the_limit_and_a_replay_are_counted(stage_with: StageWith):
    stage: Stage = await stage_with(max_devices=1, device_limit_action=DeviceLimitAction.REJECT)
    old = await stage.sign_in()
    await stage.refused("IssueDevice", pb.IssueDeviceRequest(user_id="ada"))
    assert counted(stage, "sign_ins_total", "outcome") == {"new_device": 1, "device_limit": 1}
    other = pb.ValidateSessionRequest(
        access_token=old.access_token, device_id="0b9ab97f-9c0d-4a0e-8a34-0f1c2a1f6d5e"
    )
    await stage.call("ValidateSession", other)
    assert counted(stage, "replays_total", "cause") == {"left_device": 1}
    assert counted(stage, "revocations_total", "kind") == {"replay": 1}


async def test_keys_connections_and_clocks_are_shown(stage_with: StageWith, source: KeySource):
    stage: Stage = await stage_with()
    sample = stage.metrics.registry.get_sample_value
    assert counted(stage, "signing_keys", "state") == {"signing": 1}
    assert sample("session_authority_signing_key_created_timestamp_seconds") == START.timestamp()
    add_key(source.path, generate(Algorithm.EDDSA, START))
    await eventually(
        lambda: counted(stage, "signing_keys", "state") == {"signing": 1, "published": 1},
        "the second key to be seen",
    )
    assert sample("session_authority_signing_keys", {"state": KeyState.REVOKED.value}) == 0
    await stage.sign_in()
    await eventually(lambda: counted(stage, "connections", "port") == {"main": 1}, "a look")
    assert counted(stage, "connections_limit", "port") == {"main": 1000}
    offset = sample("session_authority_store_clock_offset_seconds")
    assert offset is not None
    assert abs(offset) < 60
    assert sample("process_open_fds")
    build = counted(stage, "build_info", "acceptor")
    assert build == {stage.server._options.acceptor.value: 1}


async def test_the_lag_of_the_loop_is_not_measured_by_its_own_clock(
    monkeypatch: pytest.MonkeyPatch,
):
    """The clock of uvloop stands still during a turn of the loop."""
    monkeypatch.setattr(process_metrics, "_LAG_INTERVAL_SECONDS", 0.001)
    loop = asyncio.get_running_loop()
    sound = loop.time
    reads = count()
    monkeypatch.setattr(loop, "time", lambda: sound() + 1000 * next(reads))
    metrics = process_metrics.ProcessMetrics()
    watching = asyncio.create_task(metrics.watch_loop())
    sample, name = metrics.registry.get_sample_value, "session_authority_event_loop_lag_seconds"
    for _ in range(1000):  # `eventually` would use the changed clock.
        await asyncio.sleep(0)
    watching.cancel()
    assert sample(f"{name}_count")
    assert (sample(f"{name}_sum") or 0) < 500


async def test_the_loop_and_watches_are_timed(
    stage_with: StageWith, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process_metrics, "_LAG_INTERVAL_SECONDS", 0.01)
    stage: Stage = await stage_with()
    sample = stage.metrics.registry.get_sample_value
    await eventually(
        lambda: bool(sample("session_authority_event_loop_lag_seconds_count")), "a measurement"
    )
    watch = stage.watch(pb.WatchEventsRequest())
    await watch.read()
    assert sample("session_authority_watch_lag_seconds_count") == 0
    await stage.sign_in()
    while not (await watch.read()).events:
        pass
    await eventually(lambda: sample("session_authority_watch_lag_seconds_count") == 1, "its lag")
    watch.cancel()
