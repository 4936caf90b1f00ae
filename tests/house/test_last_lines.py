"""`make test` and `make lint` end with a plain line: what ran, what was skipped, and why."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.results import Results

ROOT = Path(__file__).parents[2]
NO_ZSH = "zsh is not on this machine"


def made(target: str, *variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", target, *variables],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "SKIPPED"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def reports(*reasons: str) -> list[Any]:
    return [SimpleNamespace(longrepr=("test_x.py", 1, f"Skipped: {reason}")) for reason in reasons]


@pytest.mark.parametrize(
    ("stats", "line"),
    [
        ({"passed": reports("", "")}, "tests: 2 tests passed, none skipped."),
        ({"passed": [None] * 6912}, "tests: 6,912 tests passed, none skipped."),
        (
            {"passed": [None], "skipped": reports(NO_ZSH, NO_ZSH, "no grpcurl")},
            f"tests: 1 test passed, 3 skipped because: {NO_ZSH} (2); no grpcurl (1).",
        ),
        (
            {"passed": [None], "failed": [None], "error": [None]},
            "tests: 2 tests failed, 1 test passed, none skipped.",
        ),
    ],
)
def test_the_last_line_counts_the_tests(stats: dict[str, list[Any]], line: str):
    assert Results.of(stats).line() == line


def test_make_test_ends_with_its_summary():
    done = made("test", "ARGS=-n 1 -p no:cacheprovider tests/house/test_pictures.py")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "tests: 7 tests passed, none skipped."


def test_make_lint_ends_with_its_summary():
    done = made("lint", "checks=contract workflows")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == "lint: 2 checks ran, and all passed: contract workflows. Skipped: nothing."


def test_make_lint_says_that_a_check_failed():
    done = made("lint", "checks=contract no-such-check")
    assert done.returncode != 0
    assert "all passed" not in done.stdout
    assert "lint: a check failed; its output stands above." in done.stderr


def test_a_check_names_what_it_skipped(tmp_path: Path):
    skipped = tmp_path / "skipped"
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "check_breaking.sh"
    script.write_bytes((ROOT / "scripts" / "check_breaking.sh").read_bytes())
    script.chmod(0o755)
    environment = {**os.environ, "SKIPPED": str(skipped)}
    subprocess.run(["git", "init", "--quiet", "--initial-branch=x", tmp_path], check=True)
    subprocess.run([script], env=environment, check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKIPPED", str(skipped))
        Results(passed=1, failed=0, skipped={NO_ZSH: 2}).note_skipped()
    with skipped.open() as lines:
        said = subprocess.run(
            ["scripts/lint_summary.sh", "breaking", "house"],
            cwd=ROOT,
            stdin=lines,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert said == (
        "lint: 2 checks ran, and all passed: breaking house. Skipped: breaking: no release tag and"
        " no main to compare the contract with; 2 tests: zsh is not on this machine.\n"
    )
