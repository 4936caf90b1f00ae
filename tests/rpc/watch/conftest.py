"""Servers to watch. The watches are ended before the servers are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from session_authority.tokens import Algorithm, KeySource, add_key, generate, promote
from tests.rpc.harness import DAY, START, Stage, StageWith
from tests.rpc.watch.harness import open_watches
from tests.support.backends import Backend


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the keys, with one key that signs."""
    key = generate(Algorithm.EDDSA, START)
    add_key(tmp_path / "keyring", key)
    promote(tmp_path / "keyring", key.kid, START - DAY)
    return tmp_path / "keyring"


@pytest.fixture
def source(folder: Path) -> KeySource:
    """The key ring of that folder."""
    return KeySource(folder)


@pytest.fixture
async def stage_with(stage_with: StageWith) -> AsyncIterator[StageWith]:
    """Runs servers, and ends all watches before the servers stop. Otherwise each watch would delay
    the stop by a second.
    """
    yield stage_with
    for call in open_watches:
        call.cancel()
    open_watches.clear()


@pytest.fixture(params=["cluster", "fakeredis", "valkey"])
async def stage(
    request: pytest.FixtureRequest, backends: Callable[[str], Backend], stage_with: StageWith
) -> Stage:
    """A server on each kind of store."""
    running: Stage = await stage_with(backends(request.param))
    return running


@pytest.fixture
async def valkey_stage(stage_with: StageWith, valkey_backend: Backend) -> Stage:
    """A server on the bundled Valkey."""
    running: Stage = await stage_with(valkey_backend)
    return running
