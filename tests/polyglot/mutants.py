"""Checks that the scenarios see each client that is broken on purpose. A copy of the client is
changed, and its scenario must fail.

    python -m tests.polyglot.mutants                   all rules of all clients; minutes
    python -m tests.polyglot.mutants go "300 ms"       those of a client, with a text in their name
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.polyglot.broken import BROKEN, Broken
from tests.polyglot.testees import CLIENTS, ROOT

_SKIPPED = shutil.ignore_patterns("build", "dist", "node_modules", "__pycache__")


def copy_of(client: str, clients: Path) -> Path:
    """A copy of a client, below a folder of copies. Packages of Node are linked, not copied."""
    source, copy = CLIENTS / client, clients / client
    shutil.copytree(source, copy, ignore=_SKIPPED)
    if (source / "node_modules").exists():
        shutil.copytree(
            source / "node_modules", copy / "node_modules", copy_function=os.link, symlinks=True
        )
    return copy


def is_seen(broken: Broken) -> str:
    """`seen`, or why this rule may be broken unnoticed."""
    with tempfile.TemporaryDirectory() as folder:
        changed = copy_of(broken.client, Path(folder)) / broken.file
        text = changed.read_text()
        if text.count(broken.old) != 1:
            return f"NOT TRIED: {broken.file} has {text.count(broken.old)} times {broken.old!r}"
        changed.write_text(text.replace(broken.old, broken.new))
        file, _, chosen = broken.scenarios.partition(" ")
        scenarios = f"tests/polyglot/{file}"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", scenarios, "-k", chosen],
            cwd=ROOT,
            env={**os.environ, "TESTEES": broken.client, "TESTEE_CLIENTS": folder},
            capture_output=True,
            text=True,
        )
    summary = done.stdout.strip().splitlines()[-1]
    if re.search(r"\d+ failed", summary) and "error" not in summary:
        return "seen"
    return f"NOT SEEN by {broken.scenarios}: {summary}\n{done.stdout[-2000:]}"


def main(arguments: list[str]) -> None:
    """Tries the rules that are named."""
    client, name = [*arguments, "", ""][:2]
    unseen = 0
    for broken in BROKEN:
        if client in ("", broken.client) and name in broken.rule:
            verdict = is_seen(broken)
            unseen += verdict != "seen"
            sys.stdout.write(f"{broken.client}: {broken.rule}: {verdict}\n")
            sys.stdout.flush()
    sys.exit(f"{unseen} broken rules were not seen." if unseen else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
