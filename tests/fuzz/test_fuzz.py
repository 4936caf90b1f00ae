"""The fuzz targets work: their seeds pass, and the fuzzer finds planted faults and reports them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.campaign import HAS_WHEEL, TARGETS, fuzz, target_of
from tests.fuzz.planted import SEED
from tests.support.backends import missing

ROOT = Path(__file__).parents[2]
NOT_TARGETS = {"__main__", "campaign", "fuzzer", "planted", "structure", "target", "test_fuzz"}


@pytest.fixture
def fuzzer() -> None:
    """Skips a test if the fuzzer is missing, or fails it where nothing may be skipped."""
    if not HAS_WHEEL:
        pytest.skip("there is no atheris for this machine")
    if find_spec("atheris") is None:
        missing("atheris")


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_of_a_target_pass(name: str):
    target = target_of(name)
    seeds = list(target.seeds)
    assert len(set(seeds)) == len(seeds) > 2
    for seed in [
        *seeds,
        b"",
        b"\0",
        b"\1",
        *(seed[:-1] for seed in seeds),
        *(seed + b"\0" for seed in seeds),
    ]:
        target.check(seed)


def test_every_target_is_run():
    assert set(TARGETS) == {path.stem for path in Path(__file__).parent.glob("*.py")} - NOT_TARGETS


@pytest.mark.usefixtures("fuzzer")
def test_a_planted_fault_is_found(tmp_path: Path):
    outcome = fuzz("planted", 30, tmp_path, name="FAULT")
    assert outcome.returncode
    assert "AssertionError: not the only spelling" in outcome.line
    assert outcome.found is not None
    assert (outcome.found.parent, outcome.found.name[:6]) == (tmp_path, "crash-")
    assert outcome.found.read_bytes()[:1] != SEED[:1]


@pytest.mark.usefixtures("fuzzer")
def test_a_planted_hang_is_found(tmp_path: Path):
    outcome = fuzz("planted", 30, tmp_path, name="HANG", hang_seconds=1)
    assert outcome.returncode
    assert "timeout" in outcome.line
    assert outcome.found is not None
    assert outcome.found.read_bytes()[:1] == b"\1"


@pytest.mark.usefixtures("fuzzer")
def test_the_memory_of_the_parent_is_no_leak(tmp_path: Path):
    ballast = b"x" * (400 << 20)
    outcome = fuzz("planted", 1, tmp_path, name="HARMLESS", max_megabytes=300)
    assert not outcome.returncode, outcome.line
    del ballast


@pytest.mark.usefixtures("fuzzer")
def test_a_planted_leak_is_found(tmp_path: Path):
    outcome = fuzz("planted", 30, tmp_path, name="LEAK", max_megabytes=300)
    assert outcome.returncode
    assert "out-of-memory" in outcome.line


def run_main(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs what `make fuzz` runs."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.usefixtures("fuzzer")
def test_a_target_without_a_finding_prints_one_line():
    ran = run_main("-m", "tests.fuzz", "pages", FUZZ_SECONDS="1")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("pages ")
    assert "executions in 1 s" in ran.stdout


def test_an_unknown_target_is_named():
    ran = run_main("-m", "tests.fuzz", "tokens", "tolkiens")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("No such target: tolkiens. There are: tokens, ")


@pytest.mark.parametrize(("required", "code"), [("", 0), ("1", 1)])
@pytest.mark.skipif(not HAS_WHEEL, reason="it may be missing here")
def test_a_missing_fuzzer_is_reported(required: str, code: int):
    hidden = "import sys, runpy, importlib.util as u; find = u.find_spec\n"
    hidden += "u.find_spec = lambda name, *more: None if name == 'atheris' else find(name, *more)\n"
    ran = run_main(
        "-c",
        hidden + "runpy.run_module('tests.fuzz', run_name='__main__')",
        REQUIRE_BACKENDS=required,
    )
    assert (ran.returncode, ran.stdout) == (code, "")
    assert ran.stderr.startswith("Nothing is fuzzed: atheris has no wheel")
