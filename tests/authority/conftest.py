"""Authorities to play with. Each is closed when its test is over."""

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
    """One signing key, of the fastest kind: which one is not what these tests are about."""
    folder = tmp_path_factory.mktemp("keys") / "keyring"
    key = generate(Algorithm.HS256, START)
    add_key(folder, key)
    promote(folder, key.kid, START - timedelta(days=1))
    return KeySource(folder)


@pytest.fixture(params=["fakeredis", "valkey"])
def stage(request: pytest.FixtureRequest, backends: Callable[[str], Backend]) -> Backend:
    """An imitation of Redis that shows in an instant what is wrong, and the real thing."""
    return backends(request.param)


@pytest.fixture
async def scene_with(
    stage: Backend, prefix: str, source: KeySource
) -> AsyncIterator[Callable[..., Scene]]:
    """Makes an authority with limits that differ from the default in what is named; all share a
    store and a clock.
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
