"""What a campaign is, how far it goes, and what it counts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.checker import Report, judge
from tests.faults.history import DAMAGE, History
from tests.faults.recorder import now

_SHOWN = 5  # Violations of a campaign that are printed in full.


@dataclass
class Tally:
    """The counts so far."""

    trials: int = 0
    calls: int = 0
    """Calls whose answers were judged. Each item of a batch counts."""
    counts: Counter[str] = field(default_factory=Counter)
    """Other counts, by name."""
    violations: list[str] = field(default_factory=list)

    def judge(self, history: History) -> None:
        """Applies the checks of the rig."""
        self.add(history, judge(history))

    def add(self, history: History, report: Report) -> None:
        """Counts what the checks found in a history."""
        calls = [call for call in history.calls if call.server != DAMAGE]
        self.calls += len(calls)
        self.counts["lost"] += len(report.lost)
        self.counts["REPLICATED"] += sum(call.replicated for call in calls)
        self.counts["without an answer"] += sum(call.is_unknown for call in calls)
        self.counts.update(f"{call.outcome} {call.reason}".strip() for call in calls if call.failed)
        for violation in report.violations:
            self.violate(str(violation))

    def hold(self, is_so: bool, what: str) -> None:
        """Counts a violation, unless the condition is true."""
        if not is_so:
            self.violate(what)

    def violate(self, what: str) -> None:
        """Counts a violation."""
        self.violations.append(what)
        if len(self.violations) <= _SHOWN:
            print(what, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Order:
    """How far a campaign goes, and its seed."""

    seed: int
    trials: int
    ends_at: float
    """By the clock of histories. A round that began before this time is played to its end."""
    until_broken: bool = False
    """Ends with the first round that has a violation."""

    def left(self, tally: Tally, most: int, under_way: int = 0) -> int:
        """How many trials the next round has, at most `most`. The trials that are `under_way` in
        other rounds are not made again. 0 if the campaign is over.
        """
        if now() > self.ends_at or (self.until_broken and tally.violations):
            return 0
        return max(0, min(most, self.trials - tally.trials - under_way))


Run = Callable[[Path, Order, Tally], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Campaign:
    """Many trials of one kind of fault."""

    name: str
    fault: str
    """The fault, as the table describes it."""
    wanted: int
    """The number of trials that are wanted."""
    run: Run
    own_network: bool = False
    """It splits servers from each other, which requires a network of its own."""
