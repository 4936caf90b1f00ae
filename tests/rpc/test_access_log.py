"""The access log has a line for each call, and no personal data."""

from __future__ import annotations

from datetime import timedelta

import pytest

from session_authority.rpc import Observer
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import SERVICE, LogStream, Stage, StageWith


@pytest.fixture
async def stage(stage_with: StageWith) -> Stage:
    running: Stage = await stage_with(observer=Observer(access_log=True))
    return running


def calls(log: LogStream) -> list[tuple[str, str]]:
    """The methods of the lines, with their codes."""
    return [(line["method"], line["code"]) for line in log.lines("call")]


async def test_each_call_has_a_line(stage: Stage, structured: LogStream):
    signed_in = await stage.sign_in("sami", client=pb.ClientInfo(ip_address="203.0.113.7"))
    await stage.validate(signed_in)
    await stage.refused("RevokeAll", pb.RevokeAllRequest())
    await stage.call("WatchEvents", pb.WatchEventsRequest())
    await stage.server.stop(timedelta(seconds=5))
    expected = [("IssueDevice", "OK"), ("ValidateSession", "OK"), ("RevokeAll", "INVALID_ARGUMENT")]
    assert calls(structured) == [*expected, ("WatchEvents", "CANCELLED")]
    [line, *_] = structured.lines("call")
    assert line.keys() == {
        *("event", "level", "timestamp", "method", "caller", "code", "seconds", "left_out"),
        "request_id",
    }
    assert 0 < line["seconds"] < 60
    secret = (signed_in.access_token, signed_in.device.device_id, "sami", "203.0.113.7")
    assert not [text for text in secret if text in structured.getvalue()]


async def test_probes_have_no_line(stage: Stage, structured: LogStream):
    await stage.call("/grpc.health.v1.Health/Check", b"")
    await stage.call(f"/{SERVICE.full_name}/GetSigningKeys", b"")
    assert calls(structured) == [("GetSigningKeys", "OK")]


async def test_a_flood_of_calls_makes_no_flood_of_lines(
    stage: Stage, structured: LogStream, monkeypatch: pytest.MonkeyPatch
):
    moment = 100.0
    monkeypatch.setattr("session_authority.rpc.observing.time.monotonic", lambda: moment)
    monkeypatch.setattr(stage.server._guards[0]._observer._budget, "_lines_per_second", 3)
    for _ in range(10):
        await stage.call("GetSigningKeys", b"")
    moment += 1
    await stage.call("GetSigningKeys", b"")
    left_out = [line["left_out"] for line in structured.lines("call")]
    assert left_out == [0, 0, 0, 7]


async def test_the_access_log_is_off_by_default(stage_with: StageWith, structured: LogStream):
    await (await stage_with()).sign_in("ada")
    assert calls(structured) == []


async def test_a_log_that_cannot_be_written_fails_no_call(
    stage: Stage, structured: LogStream, monkeypatch: pytest.MonkeyPatch
):
    def write(_: str) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(structured, "write", write)
    await stage.call("GetSigningKeys", b"")
