"""Servers to call. Each server ends with its test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from session_authority.domain.session_limits import SessionLimits
from session_authority.processes import health
from session_authority.processes.options import ListenOptions, Mode, Ports
from session_authority.rpc import Observer
from session_authority.runtime import logs
from session_authority.runtime.settings import Acceptor
from session_authority.store import Replicas
from session_authority.tokens import Algorithm, KeySource, add_key, generate, promote
from tests.rpc.harness import NO_REPLICAS, ONE_PORT, OPEN, START, LogStream, Stage, StageWith
from tests.support.backends import Backend


@pytest.fixture(autouse=True)
def probes_are_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets probes wait: on a machine that hangs for a second, the store is not unreachable."""
    monkeypatch.setattr(health, "PROBE_TIMEOUT", timedelta(seconds=20))


@pytest.fixture
def source(tmp_path_factory: pytest.TempPathFactory) -> KeySource:
    """A folder with one key that signs and is public."""
    folder = tmp_path_factory.mktemp("keys") / "keyring"
    key = generate(Algorithm.EDDSA, START)
    add_key(folder, key)
    promote(folder, key.kid, START - timedelta(days=1))
    return KeySource(folder)


@pytest.fixture
async def stage_with(
    backends: Callable[[str], Backend], prefix: str, source: KeySource, acceptor: Acceptor
) -> AsyncIterator[StageWith]:
    """Runs a server on a backend, with the given limits and the usual values for the others."""
    async with AsyncExitStack() as stack:

        async def run(
            backend: Backend | None = None,
            *,
            reflection: bool = False,
            doors: ListenOptions = OPEN,
            ports: Ports = ONE_PORT,
            replicas: Replicas = NO_REPLICAS,
            observer: Observer | None = None,
            **limits: Any,
        ) -> Stage:
            doors = replace(doors, acceptor=acceptor)
            chosen = backend or backends("fakeredis")
            mode = Mode(reflection=reflection)
            stage = Stage(
                chosen, prefix, source, SessionLimits(**limits), mode, doors, replicas, observer
            )
            return await stack.enter_async_context(stage.open(ports))

        yield run


@pytest.fixture
async def stage(stage_with: StageWith) -> Stage:
    """A server with the usual limits, on fakeredis."""
    running: Stage = await stage_with()
    return running


@pytest.fixture
def structured() -> LogStream:
    """The log from here on, with all fields that a line has in production."""
    stream = LogStream()
    logs.configure("info", stream)
    return stream
