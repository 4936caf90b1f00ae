"""Plays one run after the other, for as long as there is time, and writes the counts as a Markdown
table.

python -m tests.faults.soak --seed 1 --minutes 60 --on standalone [--troubles "store killed,full"]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.faults import replicated
from tests.faults.checker import Violation, judge
from tests.faults.history import Call, History, Kind, Role
from tests.faults.play import BALANCED, Script, play
from tests.faults.recorder import now
from tests.faults.stage import Stage, standalone
from tests.faults.troubles import STANDALONE, Trouble

OpenStage = Callable[[Path], AbstractAsyncContextManager[Stage]]
STAGES: dict[str, tuple[OpenStage, dict[str, Trouble]]] = {
    "standalone": (standalone, STANDALONE),
    "sentinel": (replicated.sentinel, replicated.SENTINEL),
    "acknowledged": (replicated.acknowledged, replicated.SENTINEL),
    "cluster": (replicated.cluster, replicated.CLUSTER),
}
_SHOWN = 5  # Violations of each run that are printed in full.


@dataclass
class Tally:
    """The counts of all runs together."""

    runs: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def add(self, history: History, seconds: float) -> None:
        """Judges a run and counts it."""
        report = judge(history)
        self.runs += 1
        self.seconds += seconds
        self.counts.update(name for call in history.calls for name in _counted_as(call))
        self.counts["events"] += len(history.log)
        self.counts["events told"] += sum(map(len, history.told.values()))
        self.counts["errors outside of faults"] += report.late_errors
        self.faults.update(fault.name for fault in history.faults)
        self.lost.update(found.check for found in report.lost)
        self.violations += report.violations
        for violation in report.violations[:_SHOWN]:
            print(violation, file=sys.stderr)

    @property
    def broken(self) -> set[str]:
        """The checks that found a violation."""
        return {violation.check for violation in self.violations}

    def table(self, seed: int, stage: str) -> str:
        """The counts, as Markdown."""
        broken = ", ".join(sorted(self.broken)) or "none"
        rows = [
            ("stage, seed", f"{stage}, {seed}"),
            ("runs, seconds", f"{self.runs:,}, {self.seconds:,.0f}"),
            ("**violations**", f"**{len(self.violations):,}** ({broken})"),
            *((name, f"{count:,}") for name, count in sorted(self.counts.items())),
            *((f"fault: {name}", f"{count:,}") for name, count in sorted(self.faults.items())),
            *((f"lost: {name}", f"{count:,}") for name, count in sorted(self.lost.items())),
        ]
        return "\n".join(["| counted | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])


def _counted_as(call: Call) -> Iterator[str]:
    yield "calls"
    if call.failed:
        yield "calls without an answer" if call.is_unknown else "calls refused"
    elif call.kind is Kind.RENEW and call.given is not None:
        yield "tokens renewed"
    elif call.kind in (Kind.REVOKE_ALL, Kind.REVOKE_DEVICE):
        yield "revocations"
    elif call.kind is Kind.SIGN_IN:
        yield "sign-ins"
    if call.replicated:
        yield "answers that say REPLICATED"
    if call.outcome == "REPLAYED" and call.role is not Role.ONLOOKER:
        yield "replays caught"
    if call.cached:
        yield "calls over the client with a cache"
    if call.server == BALANCED:
        yield "calls over the client"
        if call.failed and call.outcome != "CANCELLED":
            yield "calls over the client that failed"


async def soak(on: str, script: Script, minutes: float, *, patient: bool) -> Tally:
    """Plays the script with one seed after the other until the time is over. Without `patient`,
    ends after the first run with a violation.
    """
    tally, end = Tally(), now() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        async with STAGES[on][0](Path(folder)) as stage:
            while not tally.runs or (now() < end and (patient or not tally.violations)):
                started = now()
                history = await play(stage, replace(script, seed=script.seed + tally.runs))
                tally.add(history, now() - started)
    return tally


def main() -> None:
    """Exits with 1 if a violation was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--each", type=float, default=40, help="seconds of a run")
    parser.add_argument("--on", choices=STAGES, default="standalone")
    parser.add_argument("--troubles", help="only these, with commas between them")
    usual = Script(0, 0, {})
    parser.add_argument("--users", type=int, default=usual.users)
    parser.add_argument("--browsers", type=int, default=usual.browsers, help="of each user")
    parser.add_argument("--pause", type=float, default=usual.pause, help="of a browser, in seconds")
    parser.add_argument("--cancels", type=float, default=usual.cancels, help="share of the calls")
    parser.add_argument("--until-broken", action="store_true")
    parser.add_argument("--json", type=Path, help="where the names of the broken checks go")
    given = parser.parse_args()
    logging.getLogger("session_authority_client").setLevel(logging.CRITICAL)
    troubles = STAGES[given.on][1]
    if given.troubles is not None:
        troubles = {name: troubles[name] for name in given.troubles.split(",") if name}
    script = Script(
        given.seed,
        given.each,
        troubles,
        users=given.users,
        browsers=given.browsers,
        pause=given.pause,
        cancels=given.cancels,
    )
    tally = asyncio.run(soak(given.on, script, given.minutes, patient=not given.until_broken))
    print(tally.table(given.seed, given.on))
    if given.json is not None:
        given.json.write_text(json.dumps(sorted(tally.broken)))
    sys.exit(bool(tally.violations))


if __name__ == "__main__":
    main()
