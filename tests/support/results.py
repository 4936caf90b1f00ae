"""What a run of tests reports at its end, in one plain line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SKIPPED = "Skipped: "


@dataclass(frozen=True)
class Results:
    """How many tests passed and failed, and why tests were skipped, with the number for each
    reason.
    """

    passed: int
    failed: int
    skipped: Mapping[str, int]

    @classmethod
    def of(cls, stats: Mapping[str, Sequence[Any]]) -> Results:
        """Reads the lists of reports that pytest's terminal reporter keeps for each outcome."""
        reasons = Counter(_reason(report) for report in stats.get("skipped", ()))
        failed = len(stats.get("failed", ())) + len(stats.get("error", ()))
        return cls(len(stats.get("passed", ())), failed, reasons)

    def line(self) -> str:
        """The line for a person."""
        counts = [f"{_tests(self.failed)} failed"] if self.failed else []
        counts.append(f"{_tests(self.passed)} passed")
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in self.skipped.items())
        skipped = f"{sum(self.skipped.values()):,} skipped because: {reasons}" if reasons else ""
        return f"tests: {', '.join(counts)}, {skipped or 'none skipped'}."

    def note_skipped(self) -> None:
        """Adds the reasons to the file that `SKIPPED` names, which `make lint` shows."""
        with Path(os.environ.get("SKIPPED", os.devnull)).open("a") as file:
            for reason, count in self.skipped.items():
                file.write(f"{_tests(count)}: {reason}\n")


def _reason(report: Any) -> str:
    """Why a test was skipped: pytest reports the file, the line and the text."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(text).removeprefix(_SKIPPED)


def _tests(count: int) -> str:
    return "1 test" if count == 1 else f"{count:,} tests"
