"""The script that checks the Go client, run with programs that only record how they are called."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPS = json.loads((ROOT / "clients/go/vectors.skip.json").read_text())
NOTING = """\
#!/bin/sh
echo "${0##*/} $*" >>"$NOTES"
case "$*" in
    "env GOVERSION") echo go1.25.0 ;;
    "env CC") echo sh ;;
esac
"""


@pytest.fixture
def noted(tmp_path: Path) -> tuple[list[str], str]:
    """The commands that the script ran, and its output."""
    for name in ("go", "gofmt", "staticcheck"):
        program = tmp_path / name
        program.write_text(NOTING)
        program.chmod(0o755)
    notes = tmp_path / "notes"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTES": str(notes)}
    done = subprocess.run(
        [ROOT / "scripts/test_go.sh"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return notes.read_text().splitlines(), done.stderr


def test_every_run_is_new_because_the_cache_of_go_ignores_the_vectors(
    noted: tuple[list[str], str],
):
    runs = [command for command in noted[0] if command.startswith("go test ")]
    modules = list((ROOT / "clients/go").glob("**/go.mod"))
    assert len(runs) == len(modules) > 0
    assert all("-count=1" in command.split() for command in runs)


def test_each_skipped_case_is_printed_with_its_reason(noted: tuple[list[str], str]):
    said = [line for line in noted[1].splitlines() if line.startswith("SKIPPED: ")]
    assert said == [f"SKIPPED: {case}: {reason}" for case, reason in SKIPS.items()]
