"""Reads docs/protocol.md, and runs its commands that generate stubs, in a copy of the files that
they need.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.backends import missing
from tests.support.shells import blocks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text("utf-8")


def section(name: str) -> str:
    """The part of the page between the marks of this name."""
    found = PAGE.partition(f"<!-- {name}: begin -->")[2].partition(f"<!-- {name}: end -->")[0]
    assert found, f"the page has no marks of {name}"
    return found


def command(language: str) -> str:
    """The command that generates the stubs of a language."""
    [found] = blocks(section(f"stubs {language}"))
    return found


def generate(language: str, folder: Path, *programs: str, script: str = "") -> Path:
    """Runs the command of a language, or another script. Returns the folder with the stubs. Skips
    the test where the machine lacks one of the programs.
    """
    for program in programs:
        if shutil.which(program) is None:
            missing(f"{program}, to generate stubs for {language}")
    shutil.copytree(ROOT / "protos", folder / "protos")
    shutil.copytree(
        ROOT / "docs" / "examples" / "stubs",
        folder / "docs" / "examples" / "stubs",
        ignore=shutil.ignore_patterns("Cargo.lock", "bin", "obj", "target"),
    )
    done = subprocess.run(
        ["bash", "-euc", script or command(language)],
        cwd=folder,
        env={**os.environ, "GOFLAGS": "-p=2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "stubs" / language
