"""Runs campaigns: many trials of each kind of fault, counted and judged, from a seed.

python -m tests.faults.campaigns [NAME ...] --trials 2000 --seed 1 --minutes 5 [--results FILE]

A name may be the beginning of several names. Without names all campaigns are run. `campaign` says
what a campaign is, `catalogue` lists all of them, and `results` keeps what the last long runs
counted. A run that is ended early has counted its complete rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import pytest

from tests.faults.campaigns import network, results
from tests.faults.campaigns.campaign import Campaign, Order, Tally
from tests.faults.campaigns.catalogue import CAMPAIGNS
from tests.faults.campaigns.results import Result
from tests.faults.recorder import now

# On a disk, a store that syncs each change would wait for the disk most of the time. In memory, the
# writes still survive when a process is killed.
_SHARED_MEMORY = Path("/dev/shm")
_MEMORY = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None


async def _run(campaign: Campaign, order: Order, tally: Tally) -> None:
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        try:
            await campaign.run(Path(folder), order, tally)
        # The complete rounds still count.
        except (Exception, BaseExceptionGroup, pytest.fail.Exception):  # noqa: BLE001
            traceback.print_exc()
            tally.counts["times the rig failed"] += 1


def _failed(campaign: Campaign, given: argparse.Namespace) -> bool:
    """Runs a campaign. Returns True if the campaign found a violation, or if the rig failed."""
    trials, started, build = given.trials or campaign.wanted, now(), results.build()
    order = Order(given.seed, trials, started + 60 * given.minutes, given.until_broken)
    tally = Tally()
    try:
        asyncio.run(_run(campaign, order, tally))
    finally:
        result = Result(
            (given.seed,),
            build,
            tally.trials,
            tally.calls,
            len(tally.violations),
            tally.counts["lost"],
            round(now() - started),
        )
        counts = ", ".join(f"{count:,} {name}" for name, count in sorted(tally.counts.items()))
        print(f"{campaign.name}: {result} {counts}", flush=True)
        if given.results is not None and result.trials:
            results.add(campaign.name, result, given.results)
    return bool(result.violations or tally.counts["times the rig failed"])


def _failed_elsewhere(campaign: Campaign, given: argparse.Namespace) -> bool:
    """Runs a campaign in a network of its own, where this user may make one."""
    options = [f"--seed={given.seed}", f"--minutes={given.minutes}"]
    options += ["--until-broken"] if given.until_broken else []
    options += [f"--trials={given.trials}"] if given.trials else []
    options += [f"--results={given.results}"] if given.results else []
    try:
        return network.run_in_own([campaign.name, *options]) != 0
    except network.NotPermitted:
        print(f"{campaign.name}: skipped, as only root can make a network", flush=True)
        return False


def main() -> None:
    """Exits with 1 if a violation was found, or if the rig failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", type=int, help="of each; if not given, as many as are wanted")
    parser.add_argument("--minutes", type=float, default=10, help="of each, at the most")
    parser.add_argument("--until-broken", action="store_true")
    parser.add_argument("--results", type=Path, help="a file of results to add to")
    parser.add_argument("--json", type=Path, help="where the names of broken campaigns go")
    given = parser.parse_args()
    chosen = [one for one in CAMPAIGNS if one.name.startswith(tuple(given.names or [""]))]
    found = results.read(given.results) if given.results is not None else {}
    for name in (one.name for one in chosen if one.name in found):
        if found[name].is_of(given.seed, results.build()):
            parser.error(f"{given.results} has {name} with this seed: choose another one")
    logging.getLogger("session_authority_client").setLevel(logging.CRITICAL)
    # A campaign that is ended ends the processes that it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if network.is_own():
        network.set_up()
    broken = []
    for campaign in chosen:
        if campaign.own_network and not network.is_own():
            failed = _failed_elsewhere(campaign, given)
        else:
            failed = _failed(campaign, given)
        if failed:
            broken.append(campaign.name)
    if given.json is not None:
        given.json.write_text(json.dumps(broken))
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
