"""Calls are counted by the usual names of gRPC metrics, with either acceptor: each call that began,
each that ended, its caller, and the reason of a refusal.
"""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from session_authority.domain.errors import MalformedMessage, Overloaded, StoreUnavailable
from session_authority.domain.refusals import REASONS, refusal_of
from session_authority.processes.options import ListenOptions
from session_authority.rpc import Capacity
from session_authority.runtime.call_metrics import CODES, MAX_CALLERS, UNKNOWN_METHOD, MethodCalls
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.access.harness import HEALTH, REFLECTION
from tests.rpc.harness import PATIENCE, SERVICE, Stage, StageWith
from tests.support.waiting import eventually

CHECK = f"/{HEALTH.full_name}/Check"
REFLECT = f"/{REFLECTION.full_name}/ServerReflectionInfo"


def counted(stage: Stage, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The values of a metric that are not 0, by these labels."""
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in stage.metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value
    }


async def test_all_kinds_of_methods_are_counted_in_the_same_way(stage_with: StageWith):
    stage: Stage = await stage_with(reflection=True)
    signed_in = await stage.sign_in()
    await stage.validate(signed_in)
    await stage.call(CHECK, health_pb2.HealthCheckRequest())
    await stage.refused("ValidateSession", b"\xff")
    await stage.refused("ListDevices", b"\xff")
    await stage.refused("/made.up/Name", b"")
    # Reflection sends one message, and then ends the stream.
    reflect = stage.channel.stream_stream(REFLECT)
    [answer] = [answer async for answer in reflect(iter([b""]), timeout=PATIENCE)]
    assert answer
    watch: Any = stage.watch(pb.WatchEventsRequest())
    await watch.read()

    def of(name: str) -> Any:
        return counted(stage, name, "grpc_type", "grpc_service", "grpc_method")

    ours = SERVICE.full_name
    began = {
        ("unary", ours, "IssueDevice"): 1,
        ("unary", ours, "ValidateSession"): 2,
        ("unary", ours, "ListDevices"): 1,
        ("unary", HEALTH.full_name, "Check"): 1,
        ("bidi_stream", REFLECTION.full_name, "ServerReflectionInfo"): 1,
        UNKNOWN_METHOD: 1,
    }
    streams = {("server_stream", ours, "WatchEvents"): 1}
    assert of("grpc_server_started_total") == began | streams
    assert of("grpc_server_handling_seconds_count") == began
    watch.cancel()
    await eventually(
        lambda: of("grpc_server_handling_seconds_count") == began | streams, "the watch to end"
    )
    handled = counted(stage, "grpc_server_handled_total", "grpc_method", "grpc_code")
    assert handled == {
        ("IssueDevice", "OK"): 1,
        ("ValidateSession", "OK"): 1,
        ("ValidateSession", "InvalidArgument"): 1,
        ("ListDevices", "InvalidArgument"): 1,
        ("Check", "OK"): 1,
        ("ServerReflectionInfo", "OK"): 1,
        ("unknown", "Unimplemented"): 1,
        ("WatchEvents", "Canceled"): 1,
    }
    callers = counted(
        stage, "session_authority_caller_calls_total", "caller", "grpc_method", "grpc_code"
    )
    assert {name for name, *_ in callers} == {"anonymous", "unknown"}
    assert {(method, code): number for _, method, code, number in _flat(callers)} == handled
    assert {row[1] for row in callers if row[0] == "unknown"} == {"Check", "unknown"}
    refused = counted(stage, "session_authority_calls_refused_total", "reason")
    assert refused == {("malformed_message",): 2, ("unknown_method",): 1}


def _flat(counts: dict[tuple[str, ...], float]) -> list[Any]:
    return [(*labels, number) for labels, number in counts.items()]


async def test_occupied_places_and_their_limit_are_shown(
    stage_with: StageWith, monkeypatch: pytest.MonkeyPatch
):
    stage: Stage = await stage_with(doors=ListenOptions(capacity=Capacity(calls=3)))
    places = stage.metrics.registry.get_sample_value
    assert places("session_authority_calls_in_flight_limit") == 3
    seen = []
    list_devices = type(stage.authority).list_devices

    async def listed(*arguments: Any, **more: Any) -> Any:
        seen.append(places("session_authority_calls_in_flight"))
        return await list_devices(*arguments, **more)

    monkeypatch.setattr(type(stage.authority), "list_devices", listed)
    await stage.call("ListDevices", pb.ListDevicesRequest(user_id="ada"))
    assert seen == [1]
    assert places("session_authority_calls_in_flight") == 0


@pytest.mark.one_acceptor
def test_each_refusal_has_a_reason():
    assert refusal_of(Overloaded()) == "too_many_calls"
    assert refusal_of(Overloaded(of_caller=True)) == "caller_share"
    assert refusal_of(MalformedMessage()) == "malformed_message"
    assert refusal_of(StoreUnavailable()) is None
    assert len(set(REASONS)) == len(REASONS)


@pytest.mark.one_acceptor
def test_codes_have_the_numbers_of_grpc():
    assert [code.value[0] for code in grpc.StatusCode] == list(range(len(CODES)))
    python = [code.name.replace("_", "").lower() for code in grpc.StatusCode]
    assert [name.lower() for name in CODES] == [
        "canceled" if name == "cancelled" else name for name in python
    ]


@pytest.mark.one_acceptor
def test_a_policy_that_changes_for_ever_fills_no_memory():
    calls = MethodCalls()
    for number in range(2 * MAX_CALLERS):
        calls.end(f"caller-{number}", 0, 0.001)
        calls.end("caller-0", 0, 0.001)
    assert len(calls.by_caller) == MAX_CALLERS + 2
    assert calls.by_caller["caller-0"][0] == 2 * MAX_CALLERS + 1
    assert sum(counts[0] for counts in calls.by_caller.values()) == 4 * MAX_CALLERS
