"""Runs campaigns: for each kind of fault so many trials, counted and judged, from a seed.

python -m tests.faults.campaigns [NAME ...] --trials 2000 --seed 1 --minutes 5 [--results FILE]

A name may be the beginning of several. Without names all campaigns are run. `campaign` says what a
campaign is, `catalogue` lists all of them, `results` keeps what the last long run counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path

from tests.faults.campaigns import results
from tests.faults.campaigns.campaign import Campaign, Order, Tally
from tests.faults.campaigns.catalogue import CAMPAIGNS
from tests.faults.campaigns.results import Result
from tests.faults.recorder import now


async def _result(campaign: Campaign, order: Order) -> tuple[Result, Tally]:
    tally, started = Tally(), now()
    with tempfile.TemporaryDirectory() as folder:
        await campaign.run(Path(folder), order, tally)
    result = Result(
        order.seed,
        tally.trials,
        tally.calls,
        len(tally.violations),
        tally.counts["lost"],
        round(now() - started),
    )
    return result, tally


def main() -> None:
    """Ends with 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", type=int, help="of each; if not given, as many as are wanted")
    parser.add_argument("--minutes", type=float, default=10, help="of each, at the most")
    parser.add_argument("--until-broken", action="store_true")
    parser.add_argument("--results", type=Path, help="a file of results that gets new rows")
    parser.add_argument("--json", type=Path, help="where the names of broken campaigns go")
    given = parser.parse_args()
    logging.getLogger("session_authority_client").setLevel(logging.CRITICAL)
    broken = []
    for campaign in CAMPAIGNS:
        if given.names and not campaign.name.startswith(tuple(given.names)):
            continue
        order = Order(
            given.seed,
            given.trials or campaign.wanted,
            now() + 60 * given.minutes,
            given.until_broken,
        )
        result, tally = asyncio.run(_result(campaign, order))
        counts = ", ".join(f"{count:,} {name}" for name, count in sorted(tally.counts.items()))
        print(f"{campaign.name}: {result} {counts}", flush=True)
        if result.violations:
            broken.append(campaign.name)
        if given.results is not None:
            results.write(results.read(given.results) | {campaign.name: result}, given.results)
    if given.json is not None:
        given.json.write_text(json.dumps(broken))
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
