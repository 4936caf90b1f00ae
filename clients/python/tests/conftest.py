"""A service that does what a test wants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clients.python.tests.service import Service, running


@pytest.fixture
def fake() -> Iterator[tuple[Service, str]]:
    """It, and its address."""
    with running() as service:
        yield service
