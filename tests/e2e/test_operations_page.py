"""The commands of docs/operations.md, pasted as they stand."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from session_authority.access import certificates
from session_authority.authority import best_effort_writes, reassertions, sessions
from session_authority.domain.appearances import appearance
from session_authority.events import recent
from session_authority.relay import window
from session_authority.rpc import messages, peers
from session_authority.runtime import logs
from session_authority.runtime.clock import now
from session_authority.store import phrases
from session_authority.store.key_names import PARTITIONS
from session_authority.tokens import (
    Algorithm,
    KeyState,
    add_key,
    generate,
    load_keyring,
    promote,
    token_memory,
)
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


def test_the_bounds_of_memory_are_those_of_the_code():
    begin, end = "<!-- memory: begin -->", "<!-- memory: end -->"
    lines = PAGE.partition(begin)[2].partition(end)[0].strip().splitlines()[2:]
    shown = [line.strip("| ").split(" | ")[2] for line in lines]
    mib, names = 2**20, certificates._remembered.cache_parameters()["maxsize"]
    expected = [
        f"{token_memory.MEMORY_BYTES // mib} MiB",
        f"{recent.MAX_RECENT_BYTES // mib} MiB, {recent.MAX_RECENT_EVENTS:,} events",
        f"{recent.MAX_JOINED_MESSAGES} of {recent.MAX_MESSAGE_BYTES // mib} MiB",
        f"32 MiB: {reassertions._MOST_ENDS:,} calls, {reassertions._MOST_SESSIONS:,} sessions",
        f"{appearance._REMEMBERED:,}, of 4 KiB: 8 MiB",
        f"{4 * phrases.REMEMBERED:,}, of 2 KiB: 8 MiB",
        f"{messages._remembered.cache_parameters()['maxsize']:,}, of 2 KiB: 2 MiB",
        f"{names:,}, of {certificates._MAX_REMEMBERED_BYTES // 1024} KiB: 16 MiB",
        f"{sessions._MAX_QUIET_SESSIONS:,}, of 320 bytes: 5 MiB",
        f"{best_effort_writes.MAX_PENDING_WRITES:,}, of 4 KiB: 4 MiB",
        f"{peers._MAX_REMEMBERED:,}, of 200 bytes: 2 MiB",
        f"{peers.MAX_UNSENT_ANSWERS:,}, of 15 KiB: 15 MiB",
        f"{logs._MAX_KINDS:,}, of 1 KiB: 1 MiB",
    ]
    assert shown == expected
    limit, events = window.MAX_BYTES_IN_MEMORY // mib, window._MAX_EVENTS_IN_MEMORY
    in_memory = limit + events * 512 // mib
    text = " ".join(PAGE.split())
    assert f"{events:,} events of each partition and endpoint, or {limit} MiB of them" in text
    assert f"at most {in_memory} MiB, and {in_memory * PARTITIONS} MiB for an endpoint" in text
