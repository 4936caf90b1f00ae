"""Every campaign can be run, and the docs have the counts of the last long run."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.campaigns import __main__ as command
from tests.faults.campaigns import cancel_storm, played, results, rotations
from tests.faults.campaigns.campaign import Campaign, Order, Tally
from tests.faults.campaigns.catalogue import CAMPAIGNS
from tests.faults.campaigns.results import Result
from tests.faults.campaigns.rounds import AT_ONCE
from tests.faults.history import Fault, History
from tests.faults.play import Script
from tests.faults.recorder import now
from tests.faults.stage import TERMS
from tests.faults.troubles import STANDALONE
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
README = ROOT / "README.md"
SMALL = {"lost-replies-issue": 20, "records": 20, "rolling-restarts": 1}


async def _nothing(_: Path, __: Order, ___: Tally) -> None:
    """Makes no trial."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
async def test_a_small_campaign_finds_nothing(name: str, tmp_path: Path) -> None:
    [campaign] = [one for one in CAMPAIGNS if one.name == name]
    tally = Tally()
    await campaign.run(tmp_path, Order(1, SMALL[name], now() + 60), tally)
    assert tally.violations == []
    assert tally.trials
    assert tally.calls >= tally.trials


def test_the_page_has_the_counts() -> None:
    assert results.table(CAMPAIGNS, results.read()) in PAGE.read_text()


def test_the_readme_counts_the_faults_and_what_they_broke() -> None:
    counted = results.read().values()
    [faults] = re.findall(r"\[(\d+) kinds of faults, no violation\]", README.read_text())
    assert int(faults) == len(counted)
    assert sum(result.violations for result in counted) == 0


def test_every_result_belongs_to_a_campaign() -> None:
    assert set(results.read()) <= {campaign.name for campaign in CAMPAIGNS}


def test_a_campaign_has_a_name_of_its_own_that_a_file_can_hold() -> None:
    names = [campaign.name for campaign in CAMPAIGNS]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z0-9-]+", name)] == []


def test_results_are_read_back(tmp_path: Path) -> None:
    found = {name: Result((1, 2), "build", 20, 3_000, 0, 4, 5) for name in ("b", "a")}
    results.write(found, tmp_path / "results.toml")
    assert results.read(tmp_path / "results.toml") == found


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        ("new", Result((1, 2), "new", 30, 500, 1, 7, 9)),
        ("old", Result((2,), "new", 10, 200, 1, 3, 4)),
    ],
)
def test_runs_of_one_build_add_up(tmp_path: Path, build: str, expected: Result) -> None:
    path = tmp_path / "results.toml"
    results.add("a", Result((1,), build, 20, 300, 0, 4, 5), path)
    results.add("a", Result((2,), "new", 10, 200, 1, 3, 4), path)
    assert results.read(path) == {"a": expected}


def test_campaigns_that_end_at_the_same_time_lose_no_result(tmp_path: Path) -> None:
    path = tmp_path / "results.toml"
    seeds = range(100)
    with ThreadPoolExecutor(8) as threads:
        for seed in seeds:
            threads.submit(results.add, "a", Result((seed,), "build", 1, 2, 0, 0, 0), path)
    assert sorted(results.read(path)["a"].seeds) == list(seeds)


def test_a_campaign_that_was_not_run_has_no_row() -> None:
    campaigns = [Campaign(name, f"fault {name}", 100, _nothing) for name in ("a", "b")]
    row = Result((7, 8), "12345678", 2_000, 30_000, 1, 40, 5)
    text = results.table(campaigns, {"b": row})
    assert text.splitlines()[2:] == [
        "| fault b | 2,000 | 100 | 30,000 | 1 | 40 | 7, 8 | 12345678 |"
    ]


async def _ended_early(_: Path, __: Order, tally: Tally) -> None:
    """Ends as a campaign that is interrupted after some trials."""
    tally.trials, tally.calls = 3, 30
    raise KeyboardInterrupt


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Result]]:
    """Runs the command with a campaign that is ended early. Returns its results."""
    campaign = Campaign("early", "ended early", 100, _ended_early)
    monkeypatch.setattr(command, "CAMPAIGNS", (campaign,))
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(seed: int, ends: type[BaseException]) -> dict[str, Result]:
        path = tmp_path / "results.toml"
        monkeypatch.setattr("sys.argv", ["campaigns", f"--seed={seed}", f"--results={path}"])
        with pytest.raises(ends):
            command.main()
        return results.read(path)

    return run


def test_a_run_that_is_ended_early_has_counted_its_rounds(
    run: Callable[..., dict[str, Result]],
) -> None:
    assert run(1, KeyboardInterrupt)["early"].trials == 3
    found = run(2, KeyboardInterrupt)["early"]
    assert (found.seeds, found.trials, found.calls) == ((1, 2), 6, 60)
    assert found.build == results.build()


async def _waits_for_nothing(_: Path, __: Order, ___: Tally) -> None:
    async def wait() -> None:
        await eventually(lambda: False, "nothing", 0)

    async with asyncio.TaskGroup() as group:
        group.create_task(wait())


async def test_a_rig_that_never_becomes_ready_has_failed(capfd: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    campaign = Campaign("in-vain", "waits in vain", 100, _waits_for_nothing)
    await command._run(campaign, Order(1, 10, now() + 60), tally)
    assert tally.counts["times the rig failed"] == 1
    assert "for nothing" in capfd.readouterr().err


def test_no_seed_counts_twice(run: Callable[..., dict[str, Result]]) -> None:
    before = run(1, KeyboardInterrupt)
    assert run(1, SystemExit) == before


async def test_a_storm_that_breaks_no_connection_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the task fails that breaks connections. The campaign must fail, too: otherwise it would
    count calls over good connections.
    """

    async def no_wires(*_: object) -> None:
        raise OSError("no wires")

    async def nobody(*_: object) -> list[cancel_storm.Asked]:
        return []

    async def blow(storm: cancel_storm.Storm, trials: int) -> None:
        await asyncio.sleep(0)
        storm._tally.trials += trials

    played = SimpleNamespace(servers=[], wires=[])
    for name in ("standalone", "round_on"):
        monkeypatch.setattr(cancel_storm, name, lambda *_, **__: nullcontext(played))
    monkeypatch.setattr(cancel_storm, "_sign_in_all", nobody)
    monkeypatch.setattr(cancel_storm, "_dirty", no_wires)
    monkeypatch.setattr(cancel_storm.Storm, "blow", blow)
    with pytest.raises(OSError, match="no wires"):
        await cancel_storm.cancel_storm(tmp_path, Order(1, 10, now() + 60), Tally())


async def test_rotations_limit_how_many_clients_have_requests_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With more clients than `AT_ONCE`, only `AT_ONCE` clients have requests under way."""
    monkeypatch.setattr(rotations, "UNTIL_RENEWED_SECONDS", 0)
    under_way: set[object] = set()
    most = 0

    async def call() -> None:
        nonlocal most
        mine = object()
        under_way.add(mine)
        most = max(most, len(under_way))
        for _ in range(3 * AT_ONCE):
            await asyncio.sleep(0)
        under_way.remove(mine)

    clients: Any = [SimpleNamespace(sign_in=call, renew=call)] * (3 * AT_ONCE)
    await rotations._round(clients, 0)
    assert most == AT_ONCE


async def test_stages_that_play_at_the_same_time_share_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    seeds: dict[Any, list[int]] = {}

    @asynccontextmanager
    async def open_stage(folder: Path) -> AsyncIterator[Any]:
        opened.append(folder)
        yield folder

    async def play(stage: Any, script: Script) -> History:
        seeds.setdefault(stage, []).append(script.seed)
        await asyncio.sleep(0)
        faults = [Fault("fault", 0, 1) for _ in range(int(script.most_troubles))]
        return History(TERMS, faults=faults)

    monkeypatch.setattr(played, "play", play)
    tally = Tally()
    run = played.playing(open_stage, STANDALONE["full"], each_round=5, stages=2)
    await run(tmp_path, Order(3, 32, now() + 60), tally)
    assert tally.trials == 32
    assert len(set(opened)) == len(seeds) == 2
    assert sorted(seed for own in seeds.values() for seed in own) == list(range(3001, 3008))


@pytest.mark.parametrize(
    ("trials", "ends_in", "violations", "expected"),
    [(40, 60, [], 10), (15, 60, [], 5), (10, 60, [], 0), (40, -1, [], 0), (40, 60, ["one"], 0)],
)
def test_a_campaign_ends(trials: int, ends_in: float, violations: list[str], expected: int) -> None:
    order = Order(1, trials, now() + ends_in, until_broken=True)
    assert order.left(Tally(trials=10, violations=violations), 10) == expected
