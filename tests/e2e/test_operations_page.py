"""The commands of docs/operations.md and docs/troubleshooting.md, pasted unchanged; the figures of
docs/operations.md; and the links of these pages and of docs/incidents.md.
"""

from __future__ import annotations

import os
import re
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

DOCS = ROOT / "docs"
PAGE = (DOCS / "operations.md").read_text("utf-8")
TROUBLESHOOTING = (DOCS / "troubleshooting.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
# The cost of a validation, as the README has it from the last report.
COSTS = (
    "`ValidateSession`",
    "each session of a batch of 100",
    "each validation of 64 callers of the Python client",
    "each token that is seen for the first time, batched",
)


def pasted(
    block: str, shell: str, folder: Path, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Runs a block in a shell whose PATH has the command. Returns what the block printed."""
    command = folder / "bin" / "session-authority"
    command.parent.mkdir()
    write_executable(command)
    path = f"{command.parent}:{os.environ['PATH']}"
    return subprocess.run(
        [shell, "-euc", block],
        env={**environment(folder, **settings), "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_a_restored_redis_is_declared_as_the_page_says(tmp_path: Path, shell: str):
    require(shell)
    begin, end = "<!-- restored: begin -->", "<!-- restored: end -->"
    [block] = blocks(PAGE.partition(begin)[2].partition(end)[0])
    folder = tmp_path / "keys"
    old = generate(Algorithm.EDDSA, now() - timedelta(days=1))
    add_key(folder, old)
    promote(folder, old.kid, now())
    done = pasted(block, shell, tmp_path, KEYS=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{old.kid} is revoked." in done.stdout
    ring = load_keyring(folder)
    assert ring.state(old.kid) is KeyState.REVOKED
    assert f"{ring.signing.kid} signs." in done.stdout


def test_the_memory_limits_on_the_page_are_those_of_the_code():
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
    assert f"up to {events:,} events of each partition for this endpoint, or {limit} MiB" in text
    assert f"{in_memory} MiB for a partition, and {in_memory * PARTITIONS} MiB for an" in text


def test_sizes_are_planned_with_the_figures_of_the_last_report():
    begin, end = "<!-- sizing: begin -->", "<!-- sizing: end -->"
    sizing = PAGE.partition(begin)[2].partition(end)[0]
    for cost in COSTS:
        [microseconds] = re.findall(rf"^\| {re.escape(cost)} \| (\d+) \|", README, re.MULTILINE)
        assert f"{microseconds} µs" in sizing, cost
    for cost in (
        "Redis bytes per session with device details and .*",
        "Redis bytes per session with `hash-max-listpack-value.*`",
    ):
        report = (ROOT / "benchmarks" / "results" / "report.md").read_text("utf-8")
        [size] = re.findall(rf"^\| {cost} \| [^|]+ \| \d+ \| (\d+) \|", report, re.MULTILINE)
        assert re.search(rf"\b{size}\b", sizing), cost


def anchor(heading: str) -> str:
    """The name by which a heading is linked to."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", ["operations.md", "incidents.md", "troubleshooting.md"])
def test_links_of_the_page_lead_to_a_heading_or_file(name: str):
    links = re.findall(r"\]\(([^)\s]+)\)", (DOCS / name).read_text("utf-8"))
    assert links
    for link in links:
        path, _, section = link.partition("#")
        if "://" in link:
            continue
        target = DOCS / (path or name)
        assert target.exists(), link
        if section:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert section in map(anchor, headings), link


def documented(name: str) -> str:
    """The first block of shell lines in a section of the troubleshooting page."""
    return blocks(TROUBLESHOOTING.partition(f"\n## {name}\n")[2].partition("\n## ")[0])[0]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_leaked_key_is_revoked_as_the_page_says(tmp_path: Path, shell: str):
    require(shell)
    folder = tmp_path / "keys"
    leaked = generate(Algorithm.EDDSA, now() - timedelta(days=1))
    add_key(folder, leaked)
    promote(folder, leaked.kid, now())
    done = pasted(documented("A key leaked"), shell, tmp_path, KEYS=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    ring = load_keyring(folder)
    assert ring.state(leaked.kid) is KeyState.REVOKED
    assert ring.signing.kid != leaked.kid
