"""A watch under way, and what a test can see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.json_format import MessageToDict

from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import LAPTOP_AGENT, PATIENCE, Refusal, Stage, refusal_of

PHONE, LAPTOP, TABLET = (str(UUID(int=0xD000 + number, version=4)) for number in range(3))
PHONE_CLIENT = pb.ClientInfo(ip_address="192.0.2.7", display_name="Pixel 8", app_version="4.12.0")
LAPTOP_CLIENT = pb.ClientInfo(ip_address="198.51.100.9", user_agent=LAPTOP_AGENT)
EXPIRED = Refusal(
    grpc.StatusCode.OUT_OF_RANGE,
    "events may be missed from here on; drop what you cache and watch again without a cursor",
    "CURSOR_EXPIRED",
    "session-authority",
)
WATCH = "/session_authority.v1.SessionAuthorityService/WatchEvents"
LEFT_OPEN = 100 * PATIENCE  # Seconds; longer than any watch of these tests lasts.
# The watches under way; a fixture ends them.
open_watches: list[Any] = []


class Watch:
    """A watch under way, and the events that it received."""

    def __init__(self, stage: Stage, **request: Any) -> None:
        self.call = stage.watch(pb.WatchEventsRequest(**request), within=LEFT_OPEN)
        open_watches.append(self.call)
        self.events: list[pb.Event] = []
        self.cursor = ""

    async def read(self) -> pb.WatchEventsResponse:
        """Returns the next message."""
        message: Any = await asyncio.wait_for(self.call.read(), PATIENCE)
        assert message is not grpc.aio.EOF
        assert message.cursor
        self.events += message.events
        self.cursor = message.cursor
        answer: pb.WatchEventsResponse = message
        return answer

    async def started(self) -> Watch:
        """Reads the first message."""
        assert not (await self.read()).events
        return self

    async def next(self, count: int = 1) -> list[pb.Event]:
        """Returns the next events."""
        told = len(self.events)
        async with asyncio.timeout(PATIENCE):  # Heartbeats would keep the loop going for ever.
            while len(self.events) < told + count:
                await self.read()
        assert len(self.events) == told + count
        return self.events[told:]

    async def refused(self) -> Refusal:
        """Returns the error that ends the watch, whatever it received before."""
        try:
            while True:
                await self.read()
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)


def told(event: pb.Event) -> dict[str, Any]:
    """The fields that an event sets, without the event's ID. Asserts that the ID is well formed."""
    said = MessageToDict(event, preserving_proto_field_name=True)
    event_id = said.pop("event_id")
    assert event_id.isascii()
    assert event_id.isprintable()
    assert "." not in event_id
    assert len(event_id) <= 64
    said["create_time"] = datetime.fromisoformat(said["create_time"])
    return dict(said)


def watchers(stage: Stage) -> int:
    """How many watches there are, by the server's metrics."""
    value = stage.metrics.registry.get_sample_value("session_authority_watchers")
    assert value is not None
    return int(value)


@contextmanager
def nothing_left(stage: Stage) -> Iterator[None]:
    """Checks that no task of a feed is left after the block."""
    before = reading_tasks()
    yield
    assert stage.feed._reading is None
    assert reading_tasks() == before


def reading_tasks() -> int:
    """The number of tasks that read for feeds."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return sum("Feed." in name or "EventLog." in name or "PubSub" in name for name in names)
