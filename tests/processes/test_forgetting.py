"""A server trims old events where no new events are written."""

from __future__ import annotations

from datetime import timedelta

import pytest

from session_authority.processes import server
from session_authority.store import KeyNames
from tests.processes.harness import Serve
from tests.support.backends import Backend
from tests.support.waiting import eventually


async def test_old_events_are_trimmed_although_no_new_ones_come(
    valkey_backend: Backend, prefix: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server, "trim_margin", lambda memory: timedelta(milliseconds=20))
    admin, stream = valkey_backend.admin(), KeyNames(prefix).stream(7)
    await admin.execute_command("XADD", stream, "1-0", "event", "old")
    await admin.execute_command("XADD", stream, "*", "event", "young")

    async def left() -> bool:
        return int(await admin.execute_command("XLEN", stream)) == 1

    await serve(valkey_backend.url)
    await eventually(left, "the old event to go")
    [[_, fields]] = await admin.execute_command("XRANGE", stream, "-", "+")
    assert fields == {b"event": b"young"}
    await admin.aclose()
