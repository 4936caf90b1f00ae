"""`events tail` follows a server that goes away or falls silent, and ends if the server refuses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from session_authority.console import following as module
from session_authority.console.connection import Target, channel_to
from session_authority.console.following import TailFailed, follow
from session_authority.runtime.addresses import Listen
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.support.waiting import wait_for


class Script(pb_grpc.SessionAuthorityServiceServicer, health_pb2_grpc.HealthServicer):
    """A server that follows a script: for each watch, it sends messages and ends with a status.

    With None instead of a status, the server stays silent after the messages.
    """

    def __init__(
        self, *watches: tuple[list[pb.WatchEventsResponse], grpc.StatusCode | None]
    ) -> None:
        self.asked: list[pb.WatchEventsRequest] = []
        self._watches = iter(watches)

    def Check(self, request: Any, context: Any) -> Any:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    def WatchEvents(
        self, request: Any, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchEventsResponse]:
        self.asked.append(request)
        messages, status = next(self._watches)
        yield from messages
        if status is None:
            wait_for(lambda: not context.is_active(), "the client to end the call")
        elif status is not grpc.StatusCode.OK:
            context.abort(status, "as told")


@contextmanager
def playing(script: Script) -> Iterator[Listen]:
    server = grpc.server(ThreadPoolExecutor(4))
    pb_grpc.add_SessionAuthorityServiceServicer_to_server(script, server)
    health_pb2_grpc.add_HealthServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Listen("127.0.0.1", port)
    finally:
        server.stop(None).wait()


def message(cursor: str, *event_ids: str) -> pb.WatchEventsResponse:
    return pb.WatchEventsResponse(
        cursor=cursor, events=[pb.Event(event_id=event_id) for event_id in event_ids]
    )


def followed(script: Script, count: int) -> tuple[list[str], list[str]]:
    """Returns the IDs of the first `count` events, and the notices that were printed meanwhile."""
    said: list[str] = []
    with playing(script) as address:
        watch = follow(
            Target(address), pb.WatchEventsRequest(start_time={"seconds": 1}), said.append
        )
        events = list(islice(chain.from_iterable(watch), count))
    return [event.event_id for event in events], said


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.OK,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
    ],
)
def test_a_broken_watch_resumes_at_its_last_cursor_and_shows_each_event_once(
    status: grpc.StatusCode,
):
    script = Script(
        ([message("1"), message("2", "a", "b")], status),
        ([message("2"), message("3", "b", "c")], None),
    )
    events, said = followed(script, 3)
    assert events == ["a", "b", "c"]
    assert [ask.cursor for ask in script.asked] == ["", "2"]
    assert [ask.HasField("start_time") for ask in script.asked] == [True, False]
    assert said == [], "no notice is printed if the server is back at once"


def test_a_silent_server_is_called_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 0.5)
    script = Script(([message("1", "a")], None), ([message("2", "b")], None))
    assert followed(script, 2) == (["a", "b"], [])
    assert [ask.cursor for ask in script.asked] == ["", "1"]


def test_a_watch_waits_for_an_absent_server_without_a_limit(monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []
    script = Script(
        ([message("1", "a")], grpc.StatusCode.UNAVAILABLE),
        *[([], grpc.StatusCode.UNAVAILABLE)] * 1100,
        ([message("2", "b")], None),
    )
    monkeypatch.setattr(
        "session_authority.console.following.time", SimpleNamespace(sleep=pauses.append)
    )
    with playing(script) as address, channel_to(Target(address)) as channel:
        monkeypatch.setattr(module, "channel_to", lambda _: nullcontext(channel))
        watch = chain.from_iterable(
            follow(Target(address), pb.WatchEventsRequest(), lambda _: None)
        )
        assert [event.event_id for event in islice(watch, 2)] == ["a", "b"]
    assert max(pauses) <= 5


def test_a_server_that_is_silent_from_the_start_fails_the_watch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_FIRST_ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 3600.0)
    with pytest.raises(TailFailed, match="CANCELLED"):
        followed(Script(([], None)), 1)


def test_an_expired_cursor_is_dropped():
    script = Script(
        ([message("1", "a")], grpc.StatusCode.OUT_OF_RANGE),
        ([message("9"), message("9", "b")], None),
    )
    events, [said] = followed(script, 2)
    assert events == ["a", "b"]
    assert [ask.cursor for ask in script.asked] == ["", ""]
    assert "events may have been missed" in said


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
def test_a_failure_before_the_first_message_ends_the_watch(status: grpc.StatusCode):
    with pytest.raises(TailFailed, match=f"{status.name}: as told"):
        followed(Script(([], status)), 1)


def test_a_permission_error_ends_the_watch():
    script = Script(([message("1", "a")], grpc.StatusCode.PERMISSION_DENIED))
    with pytest.raises(TailFailed, match="PERMISSION_DENIED: as told"):
        followed(script, 2)
