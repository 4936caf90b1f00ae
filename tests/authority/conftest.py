"""Authorities for tests. Each authority is closed when its test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from session_authority.domain.session_limits import SessionLimits
from session_authority.tokens import Algorithm, KeySource, add_key, generate, promote
from tests.authority.harness import START, Scene
from tests.support.backends import Backend
from tests.support.clock import Clock


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> KeySource:
    """A keyring with one signing key of the fastest kind. These tests do not depend on the kind."""
    folder = tmp_path_factory.mktemp("keys") / "keyring"
    key = generate(Algorithm.HS256, START)
    add_key(folder, key)
    promote(folder, key.kid, START - timedelta(days=1))
    return KeySource(folder)


@pytest.fixture(params=["fakeredis", "valkey"])
def stage(request: pytest.FixtureRequest, backends: Callable[[str], Backend]) -> Backend:
    """A backend: an imitation of Redis, which shows faults in an instant, or a real server."""
    return backends(request.param)


@pytest.fixture
async def scene_with(
    stage: Backend, prefix: str, source: KeySource
) -> AsyncIterator[Callable[..., Scene]]:
    """A function that makes an authority with the given limits, and with defaults for all others.
    All authorities share a store and a clock.
    """
    made: list[Scene] = []
    clock = Clock(START)

    def make(**limits: Any) -> Scene:
        made.append(Scene(stage, prefix, source, SessionLimits(**limits), clock))
        return made[-1]

    yield make
    for scene in made:
        await scene.close()


@pytest.fixture
async def scene(scene_with: Callable[..., Scene]) -> Scene:
    """An authority with the default limits."""
    return scene_with()
