"""Tests of the command in this process, with no settings but those of the test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hides the settings of the person who runs the tests, allows no server in this process, and
    resets the logging afterwards.
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
