"""Writes the results: a page in Markdown with plots, the same data as JSON, and a short table.

Computes no results: the figures come from the rounds, and the verdicts from the goals.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.accounting import CORES, OTHER_CORES, SERVER_CORES
from benchmarks.goals import Verdict, verdicts
from benchmarks.plots import Bar, write_bars
from benchmarks.rounds import Results
from benchmarks.stage import FLOOR_PYTHON
from benchmarks.suites import ROUNDS_TIMES, Sizes

_PACKAGES = ("grpcio", "protobuf", "redis", "hiredis", "PyJWT", "cryptography", "fastapi")
# The bars of each plot, from the floor up.
_PLOTS = {
    "cost": (
        "Processor time of the server, for each answer",
        "server_us",
        (
            "empty RPC",
            "empty RPC, standing tasks",
            "empty FastAPI",
            "do-it-yourself",
            "empty validation",
            "validation",
            "validation with client",
            "validation, many users",
            "batch of 100",
            "Python client, 64 callers",
        ),
    ),
    "rate": (
        "Answers a second, one core for the server",
        "rate",
        (
            "empty RPC",
            "empty FastAPI",
            "do-it-yourself",
            "validation",
            "batch of 100",
            "first sight, batched",
        ),
    ),
}
_NOTE = """\
The figures are medians over the rounds. Brackets hold the lowest and the highest round. Times in µs
are processor time for each answer, or for each session of a batch. p50 and p99 are waiting times.
In closed loops, these times include the time in the queue."""
_UNITS = {"server_us": "µs", "rate": "/s"}
_COLUMNS = 100
_FLOORS = ("HGET", "empty", "do-it-yourself")


# The rows of the README's table: each variant with its name in the README.
_SHORT = {
    "empty RPC": "an empty RPC on grpc.aio",
    "validation": "`ValidateSession`",
    "batch of 100": "each session of a batch of 100",
    "Python client, 64 callers": "each validation of 64 callers of the Python client",
    "first sight, batched": "each token that is seen for the first time, batched",
    "empty FastAPI": "an empty endpoint of FastAPI",
    "do-it-yourself": "a check with FastAPI, PyJWT and redis-py",
}
_SHORT_BEGIN, _SHORT_END = "<!-- speed: begin -->", "<!-- speed: end -->"


def short_table(figures: Mapping[str, Any]) -> str:
    """Returns the README's table, made from the content of `report.json`."""
    costs = {
        name: statistics.median(turn["server_us"] for turn in figures["variants"][name])
        for name in _SHORT
    }
    floor = costs["empty RPC"]
    rows = ["| | µs of server CPU | ÷ an empty RPC |", "|---|---|---|"]
    rows += [
        f"| {words} | {costs[name]:,.0f} | {costs[name] / floor:.2f} |"
        for name, words in _SHORT.items()
    ]
    return "\n".join(rows)


def with_short_table(readme: str, figures: Mapping[str, Any]) -> str:
    """Returns the README with a new table of these figures."""
    before, _, rest = readme.partition(_SHORT_BEGIN)
    _, _, after = rest.partition(_SHORT_END)
    return f"{before}{_SHORT_BEGIN}\n{short_table(figures)}\n{_SHORT_END}{after}"


def write_report(folder: Path, results: Results, sizes: Sizes, seconds: float) -> None:
    """Writes `report.md`, its plots and `report.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = verdicts(results)
    plots = "\n".join(_plots(folder, results))
    parts = [
        "# What a validation costs",
        _about(sizes, seconds),
        "## What it must reach",
        _goal_table(found),
        plots,
        "## Every variant",
        _NOTE,
        _variant_table(results),
        "## Other figures",
        _fact_table(results),
        *_skipped(results),
    ]
    (folder / "report.md").write_text("\n\n".join(part.strip() for part in parts if part) + "\n")
    (folder / "report.json").write_text(
        json.dumps(_as_json(results, found, sizes), indent=1, ensure_ascii=False) + "\n"
    )


def _about(sizes: Sizes, seconds: float) -> str:
    """Describes how and on which machine the figures were measured, in paragraphs."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    floors = "uvloop and httptools" if FLOOR_PYTHON.exists() else "asyncio and h11"
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    made = (
        f"Made by `make bench` on {datetime.now(UTC):%Y-%m-%d}, in {seconds:.0f} s:"
        f" {sizes.rounds} rounds of {sizes.seconds:g} s for each variant, in turns."
        f" {_processor()}, {len(CORES)} cores, Linux {platform.release()}; Python"
        f" {platform.python_version()}; {packages}; uvicorn on {floors}; the bundled Valkey, with"
        f" an append-only file. Load of the machine at the end (1, 5, 15 minutes): {load}."
    )
    where = (
        f"The server runs on core {min(SERVER_CORES)}; the store and the load share core"
        f" {min(OTHER_CORES)}. Variants whose names end with `anywhere`, `one worker` or `two"
        " workers` run on all cores. Processor time is read from the kernel's clock of each"
        " process."
        if len(CORES) > 1
        else "Everything shares the only core."
    )
    load_of_lines = (
        "Unless a line says otherwise, 4 connections with 16 streams each ask about one user, in"
        " plaintext and without the field `client`. HTTP/1.1 has 64 connections instead. Many users"
        f" are {sizes.users:,}. Few sessions are {sizes.few_sessions:,}, and many sessions are"
        f" {sizes.many_sessions:,}. Variants with few or many sessions have"
        f" {ROUNDS_TIMES['scale']} times as many rounds, and their stores write no file. Every"
        " answer is checked. A wrong answer ends the run."
    )
    return "\n\n".join(textwrap.fill(part, _COLUMNS) for part in (made, where, load_of_lines))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _spread(values: Sequence[float], digits: int = 0) -> str:
    low, high = (f"{one:,.{digits}f}" for one in (min(values), max(values)))
    return f"{statistics.median(values):,.{digits}f} ({low}–{high})"


def _goal_table(found: Iterable[Verdict]) -> str:
    rows = ["| figure | must | aim | measured | lowest–highest | |", "|---|---|---|---|---|---|"]
    for verdict in found:
        goal, values = verdict.goal, verdict.values
        sign = "≥" if goal.at_least else "≤"
        measured = spread = "–"
        if values:
            measured = f"{_short(verdict.median)}{goal.unit}"
            spread = f"{_short(min(values))}–{_short(max(values))}" if len(values) > 1 else "–"
        limits = f"{sign} {goal.must:g}{goal.unit} | {goal.aim:g}{goal.unit}"
        rows.append(f"| {goal.figure} | {limits} | {measured} | {spread} | {verdict.words()} |")
    return "\n".join(rows)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _variant_table(results: Results) -> str:
    rows = [
        "| variant | answers/s | server µs | store µs | load µs | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in results.turns:
        columns = [
            _spread(results.series(name, "rate")),
            _spread(results.series(name, "server_us")),
        ]
        columns += [f"{results.median(name, figure):.1f}" for figure in ("store_us", "load_us")]
        for figure in ("p50_us", "p99_us"):
            columns.append(f"{results.median(name, figure) / 1000:.2f}")
        rows.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(rows)


def _fact_table(results: Results) -> str:
    rows = ["| figure | median (lowest–highest) |", "|---|---|"]
    rows += [f"| {name} | {_spread(values, 2)} |" for name, values in results.facts.items()]
    return "\n".join(rows)


def _skipped(results: Results) -> list[str]:
    if not results.skipped:
        return []
    lines = [f"- {name}: {why}" for name, why in results.skipped.items()]
    return ["## Not measured", "\n".join(lines)]


def _plots(folder: Path, results: Results) -> Iterable[str]:
    for name, (title, figure, variants) in _PLOTS.items():
        bars = []
        for variant in variants:
            if values := results.series(variant, figure):
                ours = not variant.startswith(_FLOORS)
                median = statistics.median(values)
                bars.append(Bar(variant, median, min(values), max(values), ours))
        if bars:
            yield write_bars(folder, name, title, _UNITS[figure], bars)


def _as_json(results: Results, found: Iterable[Verdict], sizes: Sizes) -> dict[str, Any]:
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{_processor()}, {len(CORES)} cores",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "sizes": asdict(sizes),
        "goals": [
            {
                "figure": verdict.goal.figure,
                "must": verdict.goal.must,
                "aim": verdict.goal.aim,
                "at_least": verdict.goal.at_least,
                "values": [round(value, 4) for value in verdict.values],
                "verdict": verdict.words().strip("*"),
            }
            for verdict in found
        ],
        "variants": {
            name: [{key: round(value, 3) for key, value in asdict(turn).items()} for turn in turns]
            for name, turns in results.turns.items()
        },
        "facts": results.facts,
        "skipped": results.skipped,
    }
