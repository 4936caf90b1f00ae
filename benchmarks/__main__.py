"""`make bench`: measures everything in one run, and writes the report to `benchmarks/results`, its
short table into the README, and the plan for a large load into docs/capacity.md.

make bench                       about six minutes
make bench ARGS=--quick          below a minute, into a folder of its own
make bench ARGS="--only validation,batching"
make bench ARGS="client hit"     another module: watch, memory, client, ends, gateway, overload,
                                 polyglot
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.capacity import with_plan
from benchmarks.facts import measure_facts
from benchmarks.load.answers import WrongAnswer
from benchmarks.report import with_short_table, write_report
from benchmarks.rounds import Results, measure
from benchmarks.stage import Stage
from benchmarks.suites import FULL, QUICK, ROUNDS_TIMES, SUITES, Sizes, Suites

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
CAPACITY = README.parent / "docs" / "capacity.md"
_FACTS = "facts"


def run(sizes: Sizes, only: Sequence[str], folder: Path) -> Results:
    """Measures the named suites, or all if none is named. Raises WrongAnswer."""
    results = Results()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        stage = Stage(Path(scratch))
        try:
            suites = Suites(stage, sizes)
            for name in SUITES:
                if not only or name in only:
                    _say(f"{time.monotonic() - began:4.0f} s  {name}")
                    rounds = sizes.rounds * ROUNDS_TIMES.get(name, 1)
                    measure(stage, suites.table(name, results), rounds, results)
            if not only or _FACTS in only:
                _say(f"{time.monotonic() - began:4.0f} s  {_FACTS}")
                measure_facts(stage, sizes, Path(scratch), results)
        except WrongAnswer:
            _say(stage.log_tail())
            raise
        finally:
            stage.close()
    write_report(folder, results, sizes, time.monotonic() - began)
    if folder == RESULTS:
        figures = json.loads((folder / "report.json").read_text())
        README.write_text(with_short_table(README.read_text(), figures))
        CAPACITY.write_text(with_plan(CAPACITY.read_text(), figures))
    _say(f"{time.monotonic() - began:4.0f} s  wrote {folder / 'report.md'}")
    return results


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark, or starts the module that the first argument names."""
    if arguments and not arguments[0].startswith("-"):
        command = [sys.executable, "-m", f"benchmarks.{arguments[0]}", *arguments[1:]]
        os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, small populations")
    parser.add_argument("--rounds", type=int, help="turns of each variant")
    parser.add_argument("--sessions", type=int, help="how many live sessions are many")
    parser.add_argument("--only", default="", help="names of suites, with commas between them")
    parser.add_argument("--out", type=Path, help="the folder of the report")
    asked = parser.parse_args(arguments)
    only = [name for name in asked.only.split(",") if name]
    # A run that is ended by a signal must stop its servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("The run was ended."))
    partial = RESULTS.parent / ".partial"
    folder = asked.out or (partial if asked.quick or only else RESULTS)
    sizes = QUICK if asked.quick else FULL
    if asked.rounds is not None:
        sizes = replace(sizes, rounds=asked.rounds)
    if asked.sessions is not None:
        sizes = replace(sizes, many_sessions=asked.sessions)
    try:
        run(sizes, only, folder)
    except WrongAnswer as error:
        sys.exit(f"The run ends: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
