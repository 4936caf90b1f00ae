"""Checks that the scenarios notice each client that is broken on purpose. A copy of the client is
changed, and its scenario must fail. On a copy without a change the same scenarios must pass.

    python -m tests.polyglot.mutants                   all rules of all clients
    python -m tests.polyglot.mutants go "300 ms"       rules of a client with a text in their name

Each client is built once. A changed copy shares what was built, and builds only its changed file.
The ten rules of the client for TypeScript take two minutes on two idle cores. With a load of 30
they took a quarter of an hour.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.polyglot.broken import BROKEN, Broken
from tests.polyglot.testees import CLIENTS, ROOT, recipes_of

_SKIPPED = shutil.ignore_patterns("build", "dist", "node_modules", "__pycache__")
# Compiles one module of TypeScript: removes the types, as `tsc -p testee` does for all modules.
_TRANSPILE = """
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
const typescript = createRequire(process.cwd() + "/package.json")("typescript");
const [from, to] = process.argv.slice(1);
const { outputText } = typescript.transpileModule(readFileSync(from, "utf8"), {
  compilerOptions: { target: "ES2022", module: "ESNext", verbatimModuleSyntax: true },
});
writeFileSync(to, outputText);
"""


@dataclass(frozen=True)
class Base:
    """A copy of a client without a change. Its testee is built if that takes long."""

    client: str
    folder: Path

    @classmethod
    def of(cls, client: str, clients: Path) -> Base:
        """Copies a client, below a folder of copies, and builds what changed copies can share.

        Go builds only changed packages by itself, and Python builds nothing.
        """
        source, folder = CLIENTS / client, clients / client
        shutil.copytree(source, folder, ignore=_SKIPPED)
        if client == "typescript":
            (recipe,) = recipes_of(folder)
            if (source / "node_modules").exists():
                shutil.copytree(
                    source / "node_modules",
                    folder / "node_modules",
                    copy_function=os.link,
                    symlinks=True,
                )
            for step in recipe.build:
                subprocess.run(step, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            described = json.loads((folder / "testee.json").read_text())
            described[recipe.name]["build"] = []
            (folder / "testee.json").write_text(json.dumps(described))
        return cls(client, folder)

    def changed(self, broken: Broken, clients: Path) -> str:
        """Makes a copy with the change, below a folder of copies. Returns "", or why this is
        impossible.
        """
        text = (self.folder / broken.file).read_text()
        if text.count(broken.old) != 1:
            return f"{broken.file} has {text.count(broken.old)} times {broken.old!r}"
        folder = clients / self.client
        ignored = shutil.ignore_patterns("node_modules")
        shutil.copytree(self.folder, folder, copy_function=os.link, ignore=ignored)
        if (self.folder / "node_modules").exists():
            (folder / "node_modules").symlink_to(self.folder / "node_modules")
        file = folder / broken.file
        file.unlink()  # `file` is a hard link to the file of the base
        file.write_text(text.replace(broken.old, broken.new))
        if file.suffix == ".ts":
            compiled = (folder / "testee/build" / broken.file).with_suffix(".js")
            compiled.unlink()
            command = [
                "node",
                "--input-type=module",
                "--eval",
                _TRANSPILE,
                str(file),
                str(compiled),
            ]
            subprocess.run(command, cwd=folder, check=True)
        return ""


def played(
    client: str, clients: Path, scenarios: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Plays scenarios with a copy of a client."""
    files = sorted({each.partition(" ")[0] for each in scenarios})
    chosen = " or ".join(f"({each.partition(' ')[2]})" for each in scenarios)
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"),
            *(f"tests/polyglot/{file}" for file in files),
            *("-k", chosen),
        ],
        cwd=ROOT,
        env={**os.environ, "TESTEES": client, "TESTEE_CLIENTS": str(clients)},
        capture_output=True,
        text=True,
    )


def summary_of(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of pytest."""
    return (done.stdout.strip().splitlines() or ["no output"])[-1]


def is_seen(broken: Broken, base: Base) -> str:
    """Returns `seen`, or the reason why this broken rule was not noticed."""
    with tempfile.TemporaryDirectory() as name:
        if why := base.changed(broken, Path(name)):
            return f"NOT TRIED: {why}"
        done = played(broken.client, Path(name), [broken.scenarios])
    summary = summary_of(done)
    if re.search(r"\d+ failed", summary) and "error" not in summary:
        return "seen"
    return f"NOT SEEN by {broken.scenarios}: {summary}\n{done.stdout[-2000:]}"


def unseen_of(client: str, rules: Sequence[Broken]) -> int:
    """Tries the rules of a client. Returns how many were not seen."""
    unseen = 0
    with tempfile.TemporaryDirectory() as name:
        base = Base.of(client, Path(name))
        done = played(client, Path(name), [broken.scenarios for broken in rules])
        if done.returncode != 0:
            sys.exit(f"{client}: without a change scenarios fail, too:\n{done.stdout[-4000:]}")
        for broken in rules:
            began = time.monotonic()
            verdict = is_seen(broken, base)
            unseen += verdict != "seen"
            seconds = time.monotonic() - began
            sys.stdout.write(f"{client}: {broken.rule}: {verdict} ({seconds:.0f} s)\n")
            sys.stdout.flush()
    return unseen


def main(arguments: list[str]) -> None:
    """Tries the rules that are named."""
    wanted, name = [*arguments, "", ""][:2]
    rules = [each for each in BROKEN if wanted in ("", each.client) and name in each.rule]
    clients = dict.fromkeys(each.client for each in rules)
    unseen = sum(
        unseen_of(client, [each for each in rules if each.client == client]) for client in clients
    )
    sys.exit(f"{unseen} broken rules were not seen." if unseen else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
