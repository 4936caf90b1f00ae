"""The runner notices a testee that breaks the protocol, and leaves no process behind."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.polyglot import test_walk as walk
from tests.polyglot import testee as runner
from tests.polyglot.testee import Process, Testee
from tests.polyglot.testees import Program, Recipe, building, built
from tests.support.waiting import eventually

READY = """print('{"ready": "odd", "commands": []}', flush=True)"""


@pytest.fixture
def odd(tmp_path: Path) -> Callable[[str], Program]:
    """Makes a testee of a few lines of Python. Each testee writes its process ID."""

    def program(code: str) -> Program:
        noted = f"import os, sys\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        return Program("odd", tmp_path, [sys.executable, "-c", noted + code], os.environ)

    return program


@pytest.mark.parametrize(
    "code",
    ["sys.exit(3)", "print('hello', flush=True)\nsys.stdin.read()", "import time\ntime.sleep(99)"],
    ids=["ends", "says something else", "says nothing"],
)
def test_a_testee_that_does_not_start_is_a_clear_failure_and_leaves_no_process(
    odd: Callable[[str], Program], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runner, "PATIENCE", 3.0)
    with pytest.raises(AssertionError, match="odd did not start"):
        Process(odd(code))
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_line_that_is_no_json_fails_the_test_in_which_it_arrived(
    odd: Callable[[str], Program],
):
    process = Process(odd(f"{READY}\nprint('a stray line', flush=True)\nsys.stdin.read()"))
    await eventually(lambda: process.unexpected, "the line")
    with pytest.raises(AssertionError, match="a stray line"):
        async with Testee(process):
            pass
    assert process.end() == 0


async def test_a_testee_that_ended_by_itself_fails_the_test(odd: Callable[[str], Program]):
    process = Process(odd(f"{READY}\nsys.exit('a bug')"))
    await eventually(lambda: not process.running, "the end")
    with pytest.raises(AssertionError, match="odd ended by itself"):
        async with Testee(process):
            pass
    assert process.end() == 1


def test_one_process_at_a_time_builds_in_the_folder_of_a_client(tmp_path: Path):
    (tmp_path / "testee.json").write_text("{}")
    tries = (
        "import fcntl, sys\n"
        f"lock = open({str(tmp_path / 'testee.json')!r})\n"
        "try:\n    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError:\n    sys.exit(0)\n"
        "sys.exit('another build could begin')\n"
    )
    (tmp_path / "out").mkdir()
    recipe = Recipe("odd", tmp_path, run=[], build=[[sys.executable, "-c", tries]])
    assert isinstance(built(recipe, tmp_path / "out"), Program)
    with (
        building(tmp_path),
        (tmp_path / "testee.json").open() as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_program_of_the_walk_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(walk, "PATIENCE", 0.2)
    deaf = "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(1)\n"
    process = subprocess.Popen(
        [sys.executable, "-uc", f"{deaf}sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            walk.end(process)
        assert process.poll() is not None
