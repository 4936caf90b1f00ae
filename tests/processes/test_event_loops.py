"""The service answers on the event loop that the setting names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dev import dev_server

pytestmark = pytest.mark.one_acceptor


@pytest.mark.parametrize(("event_loop", "is_uvloop"), [(None, True), ("asyncio", False)])
def test_a_server_runs_on_the_event_loop_of_the_setting(
    tmp_path: Path, event_loop: str | None, is_uvloop: bool
) -> None:
    settings = {} if event_loop is None else {"SESSION_AUTHORITY_EVENT_LOOP": event_loop}
    with dev_server(tmp_path, settings) as server:
        assert server.serving()
        loaded = Path(f"/proc/{server.process.pid}/maps").read_text("ascii")
    assert ("/uvloop/" in loaded) is is_uvloop
