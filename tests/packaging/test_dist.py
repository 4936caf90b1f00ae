"""`scripts/dist.py` builds into a folder of its own, and removes no files of other programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fork_server import ROOT

RELEASE = [
    "SHA256SUMS",
    "session-authority-1.2.3-image.oci.tar",
    "session_authority-1.2.3.tar.gz",
    "session_authority_client-1.2.3-py3-none-any.whl",
]
# The program without the build.
EMPTY = (
    "import runpy, sys, pathlib; runpy.run_path(sys.argv[1])['empty'](pathlib.Path(sys.argv[2]))"
)


def emptied(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", EMPTY, str(ROOT / "scripts" / "dist.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def fill(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).write_text("")


def test_the_files_of_the_release_before_are_removed(tmp_path: Path):
    fill(tmp_path, RELEASE)
    done = emptied(tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_made(tmp_path: Path):
    assert emptied(tmp_path / "new" / "dist").returncode == 0
    assert (tmp_path / "new" / "dist").is_dir()


@pytest.mark.parametrize("name", ["letter.txt", "session-authority-notes.txt", ".hidden"])
def test_a_folder_with_other_files_is_not_changed(tmp_path: Path, name: str):
    fill(tmp_path, [*RELEASE, name])
    refused = emptied(tmp_path)
    assert refused.returncode == 1
    assert name in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {*RELEASE, name}
