"""When a worker counts as hung."""

from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest
from structlog.testing import capture_logs

from session_authority.processes import heartbeat
from session_authority.processes.heartbeat import (
    HUNG_AFTER_SECONDS,
    MAX_STEP_SECONDS,
    STARTED_AFTER_SECONDS,
    Heart,
    Pulse,
)
from tests.support.waiting import eventually


@pytest.fixture
def pipe() -> Iterator[tuple[Connection, Connection]]:
    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer:
        yield reader, writer


def looks_until_hung(pulse: Pulse, passed_seconds: float, most: int = 1000) -> int:
    return next(n for n in range(1, most) if pulse.is_hung(passed_seconds))


def test_a_silent_worker_is_hung_after_some_time(pipe: tuple[Connection, Connection]):
    reader, writer = pipe
    pulse = Pulse(reader)
    for _ in range(3):
        os.write(writer.fileno(), b".")
        assert not pulse.is_hung(0.5)
        assert looks_until_hung(pulse, 0.5) == HUNG_AFTER_SECONDS / 0.5 + 1


def test_a_worker_may_take_longer_to_start(pipe: tuple[Connection, Connection]):
    assert looks_until_hung(Pulse(pipe[0]), 0.5) == STARTED_AFTER_SECONDS / 0.5 + 1


def test_a_supervisor_that_was_stopped_itself_blames_no_worker(
    pipe: tuple[Connection, Connection],
):
    reader, writer = pipe
    pulse = Pulse(reader)
    os.write(writer.fileno(), b".")
    assert not pulse.is_hung(0.5)
    assert looks_until_hung(pulse, 3600.0) == HUNG_AFTER_SECONDS / MAX_STEP_SECONDS + 1


def test_a_dead_worker_is_silent(pipe: tuple[Connection, Connection]):
    reader, writer = pipe
    writer.close()
    assert not Pulse(reader).is_hung(0.5)


async def test_a_worker_beats_while_its_loop_runs(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[Connection, Connection]
):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.001)
    reader, writer = pipe
    heart = Heart(writer)
    heart.start()
    for _ in range(3):
        await eventually(reader.poll, "a beat")
        os.read(reader.fileno(), 4096)


async def test_a_supervisor_that_does_not_listen_blocks_no_worker(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[Connection, Connection]
):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.0)
    reader, writer = pipe
    fcntl.fcntl(writer.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    heart = Heart(writer)
    with capture_logs() as logged:
        heart.start()
        for _ in range(10_000):  # More beats than the pipe can hold.
            await asyncio.sleep(0)
        assert len(os.read(reader.fileno(), 8192)) == 4096
        reader.close()
        for _ in range(100):
            await asyncio.sleep(0)
    assert logged == []
