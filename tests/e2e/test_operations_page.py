"""The commands of docs/operations.md, pasted as they stand."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from session_authority.runtime.clock import now
from session_authority.tokens import Algorithm, KeyState, add_key, generate, load_keyring, promote
from tests.support.commands import environment
from tests.support.fork_server import ROOT, write_executable
from tests.support.shells import SHELLS, blocks, require

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")


@pytest.mark.parametrize("shell", SHELLS)
def test_to_say_that_redis_was_restored(tmp_path: Path, shell: str):
    require(shell)
    begin, end = "<!-- restored: begin -->", "<!-- restored: end -->"
    [block] = blocks(PAGE.partition(begin)[2].partition(end)[0])
    folder = tmp_path / "keys"
    old = generate(Algorithm.EDDSA, now() - timedelta(days=1))
    add_key(folder, old)
    promote(folder, old.kid, now())
    command = tmp_path / "bin" / "session-authority"
    command.parent.mkdir()
    write_executable(command)
    settings = environment(tmp_path, KEYS=str(folder))
    done = subprocess.run(
        [shell, "-euc", block],
        env={**settings, "PATH": f"{command.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{old.kid} is revoked." in done.stdout
    ring = load_keyring(folder)
    assert ring.state(old.kid) is KeyState.REVOKED
    assert f"{ring.signing.kid} signs." in done.stdout
