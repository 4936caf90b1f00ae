"""The command as it runs in this process: with no settings but those of a test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command finds no settings of the person who runs the tests, starts no server in this
    process, and leaves no set-up of logs behind.
    """
    for name in os.environ:
        if name.startswith("SESSION_AUTHORITY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        "session_authority.processes.workers.run",
        lambda *_: pytest.fail("a server was started in this process"),
    )
    yield
    structlog.reset_defaults()
