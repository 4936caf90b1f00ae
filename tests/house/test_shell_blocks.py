"""The commands of every page can be pasted, whichever shell the reader has."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.shells import SHELLS, blocks, require

ROOT = Path(__file__).parents[2]
# Packages that other tests install are left out.
PAGES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-z", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")[:-1]
    if blocks((ROOT / name).read_text("utf-8"))
]


def test_pages_have_commands():
    assert {path.name for path in PAGES} >= {"README.md", "security.md", "keys.md", "events.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_parses_every_block(shell: str, page: Path):
    require(shell)
    for block in blocks(page.read_text("utf-8")):
        read = subprocess.run([shell, "-n", "-c", block], capture_output=True, text=True)
        assert (read.returncode, read.stderr) == (0, ""), block


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_block_has_a_line_that_some_shells_cannot_paste(page: Path):
    for block in blocks(page.read_text("utf-8")):
        assert not re.search(r"(^|\s)#", block, re.MULTILINE), "for zsh a comment is a command"
        assert "<<<" not in block, "dash knows no here-string"
        assert not re.search(r"\bawk\b", block), "slim systems have none"
        assert not re.search(r"^cd ", block, re.MULTILINE), "lines behind one that fails run, too"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_block_mixes_the_installed_command_with_the_checkout_s(page: Path):
    for block in blocks(page.read_text("utf-8")):
        assert ".venv/bin/" not in block
