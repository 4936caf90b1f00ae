"""Fuzzes one target after another, and prints a line for each.

Findings stay below `.fuzz/` in the project's folder, which git ignores: an input that breaks a
property, hangs or uses too much memory, the fuzzer's report about it, and the inputs that reached
most code, with which the next run starts.
"""

from __future__ import annotations

import hashlib
import importlib
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.target import Target

TARGETS = ("tokens", "cursors", "pages", "records", "clients", "keys", "requests", "checks")
# The same condition as in requirements/fuzz.in.
HAS_WHEEL = (
    sys.version_info < (3, 14) and sys.platform == "linux" and platform.machine() == "x86_64"
)
HANG_SECONDS = 10
MAX_MEGABYTES = 1024
_MAX_INPUT = 6000
# libFuzzer measures by getrusage(2). Linux also counts the memory that the parent had when it
# started the process: a big parent would look like a leak. So a small shell is the parent.
_OF_ITS_OWN = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
_ROOT = Path(__file__).parents[2]
FOLDER = _ROOT / ".fuzz"
_DONE = re.compile(r"^#\d+\s+DONE\s+cov: (\d+) .*corp: (\d+)/", re.MULTILINE)
_EXECUTED = re.compile(r"^stat::number_of_executed_units:\s+(\d+)$", re.MULTILINE)
_FOUND = re.compile(r"Test unit written to (\S+)")
_PROBLEM = re.compile(
    r"^ === Uncaught Python exception: ===\n(.+)|^==\d+== ERROR: libFuzzer: (.+)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `found` is the input that ended it, if an input did."""

    returncode: int
    line: str
    log: Path
    found: Path | None


def target_of(module: str, name: str = "TARGET") -> Target:
    """The target of a module."""
    target: Target = getattr(importlib.import_module(f"tests.fuzz.{module}"), name)
    return target


def fuzz(
    module: str,
    seconds: int,
    folder: Path,
    *,
    name: str = "TARGET",
    hang_seconds: int = HANG_SECONDS,
    max_megabytes: int = MAX_MEGABYTES,
) -> Outcome:
    """Fuzzes one target for this long, or until a property fails."""
    corpus, words, log = folder / "corpus", folder / "words", folder / "log"
    corpus.mkdir(parents=True, exist_ok=True)
    target = target_of(module, name)
    for seed in target.seeds:
        (corpus / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    # At least one word: libFuzzer refuses an empty dictionary.
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in (b"\0", *target.words)))
    command = [*_OF_ITS_OWN, sys.executable, "-m", "tests.fuzz.fuzzer", f"tests.fuzz.{module}"]
    command += [name, str(corpus)]
    command += [
        f"-max_total_time={seconds}",
        f"-timeout={hang_seconds}",
        f"-rss_limit_mb={max_megabytes}",
    ]
    command += [
        f"-max_len={_MAX_INPUT}",
        f"-dict={words}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
    ]
    with log.open("wb") as output:
        run = subprocess.run(
            command, cwd=_ROOT, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    said = log.read_text(errors="replace")
    label = module if name == "TARGET" else f"{module}.{name}"
    found = _FOUND.search(said)
    return Outcome(
        run.returncode, f"{label:<9} {_line(said, seconds)}", log, Path(found[1]) if found else None
    )


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _line(said: str, seconds: int) -> str:
    executed, done, problem = _EXECUTED.search(said), _DONE.search(said), _PROBLEM.search(said)
    times = f"{int(executed[1]):,} executions" if executed else "no executions counted"
    if done and not problem:
        return f"{times} in {seconds} s, {done[1]} edges covered by a corpus of {done[2]}"
    return (
        f"FAILED after {times}:"
        f" {(problem[1] or problem[2]).strip() if problem else 'the fuzzer ended by itself'}"
    )
