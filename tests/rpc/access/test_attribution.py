"""Events and the log name the caller that made the call."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import structlog

from session_authority.access import new_token
from session_authority.events.reader import Look
from session_authority.rpc.acceptor import MAX_WAITING_TASKS
from session_authority.runtime import logs
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.access.harness import ANSWERED, UNKNOWN, Enter, House, ended, path_of
from tests.rpc.harness import PATIENCE, Stage

# --- the caller -----------------------------------------------------------------------------------


async def test_an_event_names_the_caller_that_made_the_call(stage: Stage, enter: Enter):
    login, gateway, account = [await enter(name) for name in ("login", "gateway", "account")]
    phone, laptop = [
        await login.call("IssueDevice", pb.IssueDeviceRequest(user_id="ada")) for _ in range(2)
    ]
    await account.call(
        "RevokeDevice", pb.RevokeDeviceRequest(user_id="ada", device_id=laptop.device.device_id)
    )
    stolen = pb.ValidateSessionRequest(
        access_token=phone.access_token, device_id=laptop.device.device_id
    )
    assert (await gateway.call("ValidateSession", stolen)).status == pb.SESSION_STATUS_REPLAYED
    await login.call("IssueDevice", pb.IssueDeviceRequest(user_id="ada"))
    await account.call("RevokeAll", pb.RevokeAllRequest(user_id="ada"))
    found = [
        (pb.EventType.Name(e.type).removeprefix("EVENT_TYPE_"), e.actor)
        for e in await events(stage, enter)
    ]
    assert found == [
        ("DEVICE_SIGNED_IN", "login"),
        ("DEVICE_SIGNED_IN", "login"),
        ("DEVICE_REVOKED", "account"),
        ("SESSION_REPLAYED", "gateway"),
        ("DEVICE_SIGNED_IN", "login"),
        ("ALL_REVOKED", "account"),
    ]


async def events(stage: Stage, enter: Enter) -> list[pb.Event]:
    """All events."""
    ops = await enter("ops")
    request = pb.WatchEventsRequest()
    request.start_time.FromDatetime(stage.clock().replace(tzinfo=None))
    call = ops.channel.unary_stream(
        path_of("WatchEvents"), response_deserializer=pb.WatchEventsResponse.FromString
    )
    stream = call(request.SerializeToString(), timeout=PATIENCE, metadata=ops._metadata)
    found: list[pb.Event] = []
    while not found:
        found += (await stream.read()).events
    stream.cancel()
    return found


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log, as the service sets logging up."""
    stream = io.StringIO()
    logs.configure("info", stream)
    # Otherwise the loggers of all modules would keep this stream.
    structlog.configure(cache_logger_on_first_use=False)
    yield stream
    structlog.reset_defaults()
    logging.basicConfig(force=True)


def entries(log: io.StringIO, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in log.getvalue().splitlines()]
    return [entry for entry in found if entry["event"] == event]


async def test_a_line_of_the_log_names_the_caller_that_made_the_call(
    log: io.StringIO, stage: Stage, enter: Enter
):
    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    stage.authority.issue_device = fail  # type: ignore[method-assign]
    stage.authority.list_devices = fail  # type: ignore[method-assign]
    calls = [
        ("login", "IssueDevice"),
        ("account", "ListDevices"),
        ("auditor", "ListDevices"),
        ("ops", "IssueDevice"),
    ]
    for name, method in calls:
        assert (await (await enter(name)).outcome(method)).code is grpc.StatusCode.INTERNAL
    assert [(entry["caller"], entry["method"]) for entry in entries(log, "internal_error")] == calls


async def test_work_for_all_watchers_names_none_of_them(
    log: io.StringIO, stage: Stage, enter: Enter
):
    notifier = await enter("notifier")
    watch = notifier.watch()
    await watch.read()

    async def fail(full: bool) -> Look:
        raise RuntimeError

    stage.feed._reader._round = fail  # type: ignore[method-assign]
    assert (await ended(watch)).code is grpc.StatusCode.OUT_OF_RANGE
    assert entries(log, "feed_failed")
    assert not any("caller" in entry for entry in entries(log, "feed_failed"))


async def test_a_refused_caller_is_in_the_log_without_its_credentials(
    log: io.StringIO, stage: Stage, house: House, enter: Enter
):
    token = new_token()
    await (await enter("gateway")).outcome("RevokeAll")
    await (await enter(token=token)).outcome("RevokeAll")
    [denied] = entries(log, "caller_not_allowed")
    assert (denied["caller"], denied["method"], denied["level"]) == (
        "gateway",
        path_of("RevokeAll"),
        "warning",
    )
    [unknown] = entries(log, "caller_unknown")
    assert (unknown["method"], unknown["why"], "caller" in unknown) == (
        path_of("RevokeAll"),
        UNKNOWN.message,
        False,
    )
    assert unknown["peer"].startswith("ipv4:127.0.0.1:")
    assert token not in log.getvalue()
    assert not any(token in log.getvalue() for token in house.tokens.values())


async def test_an_unknown_caller_is_never_logged_as_the_caller_before(
    log: io.StringIO, stage: Stage, enter: Enter
):
    """The same tasks answered both."""
    gateway, stranger = await enter("gateway"), await enter(token=new_token())
    calls = [gateway.outcome("ValidateSession") for _ in range(2 * MAX_WAITING_TASKS)]
    assert await asyncio.gather(*calls) == [ANSWERED] * len(calls)
    assert (await stranger.outcome("ValidateSession")).code is grpc.StatusCode.UNAUTHENTICATED
    [line] = entries(log, "caller_unknown")
    assert "caller" not in line


async def test_a_flood_of_refusals_makes_no_flood_of_lines(
    log: io.StringIO, enter: Enter, monkeypatch: pytest.MonkeyPatch
):
    moment = 100.0
    monkeypatch.setattr("session_authority.rpc.authorization.monotonic", lambda: moment)
    visitor = await enter("gateway")
    for _ in range(20):
        await visitor.outcome("RevokeAll")
    assert [entry["left_out"] for entry in entries(log, "caller_not_allowed")] == [0]
    moment += 1
    await visitor.outcome("RevokeAll")
    assert [entry["left_out"] for entry in entries(log, "caller_not_allowed")] == [0, 19]
