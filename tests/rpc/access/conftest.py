"""A server with TLS and an access policy, and visitors to its ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from session_authority.rpc import Observer
from tests.rpc.access.harness import ALL_PORTS, Enter, House, Visitor, visiting
from tests.rpc.harness import Stage, StageWith


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


@pytest.fixture
def observer() -> Observer:
    """How operators observe calls: not at all, unless a test sets it."""
    return Observer()


@pytest.fixture
async def stage(stage_with: StageWith, house: House, observer: Observer) -> Stage:
    """A server that requires certificates on one port and tokens on another, and answers health
    checks on a third.
    """
    running: Stage = await stage_with(
        doors=house.doors(), ports=ALL_PORTS, reflection=True, observer=observer
    )
    return running


@pytest.fixture
async def enter(stage: Stage, house: House) -> AsyncIterator[Enter]:
    """A visitor at the right port: a caller of the policy by name, or a visitor with the given
    credentials.
    """
    async with AsyncExitStack() as stack:

        async def go(name: str = "", **shows: Any) -> Visitor:
            shows.setdefault("pair", house.pairs.get(name))
            shows.setdefault("token", house.tokens.get(name))
            door = stage.ports.main if shows["pair"] else stage.ports.bearer
            shows.setdefault("trust", house.ca.pem)
            visitor = visiting(shows.pop("address", door), **shows)
            return await stack.enter_async_context(visitor)

        yield go
