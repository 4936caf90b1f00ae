"""What the clients of a run record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from session_authority.v1 import session_authority_pb2 as pb
from tests.faults.clients import Watcher, running
from tests.faults.recorder import Recorder
from tests.faults.stage import TERMS
from tests.support.waiting import eventually


async def test_a_watcher_records_no_event_of_an_earlier_run() -> None:
    """The start of a watch is in whole seconds, so a watcher also gets events from just before."""
    events = [pb.Event(event_id=f"of {user}", user_id=user) for user in ("before", "mine")]

    async def watch(*_: object, **__: object) -> AsyncIterator[pb.WatchEventsResponse]:
        yield pb.WatchEventsResponse(events=events, cursor="next")
        await asyncio.Event().wait()

    server: Any = SimpleNamespace(name="server", stub=SimpleNamespace(WatchEvents=watch))
    recorder = Recorder(TERMS)
    watcher = Watcher(server, recorder, ["mine"])
    with running(watcher.watch()):
        await eventually(lambda: watcher.is_live, "the watcher to watch")
    assert [event.event_id for event in recorder.history.told["server"]] == ["of mine"]
