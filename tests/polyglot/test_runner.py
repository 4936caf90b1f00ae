"""The runner notices a testee that does not keep to the protocol, and leaves no process behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.polyglot import testee as runner
from tests.polyglot.testee import Process, Testee
from tests.polyglot.testees import Program
from tests.support.waiting import eventually

READY = """print('{"ready": "odd", "commands": []}', flush=True)"""


@pytest.fixture
def odd(tmp_path: Path) -> Callable[[str], Program]:
    """Makes a testee of a few lines of Python. Each writes its process ID."""

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


async def test_a_line_that_is_no_json_fails_the_test_that_it_came_in(odd: Callable[[str], Program]):
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
