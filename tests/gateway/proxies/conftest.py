"""A stage for all proxies: one authority, one gateway, one app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.gateway.proxies.programs import PROGRAMS
from tests.gateway.proxies.stage import Stage, stage_in


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield stack.enter_context(stage_in(tmp_path_factory.mktemp("stage")))


@pytest.fixture(scope="session", params=PROGRAMS)
def proxy(request: pytest.FixtureRequest) -> str:
    """Each proxy by its name."""
    name: str = request.param
    return name
