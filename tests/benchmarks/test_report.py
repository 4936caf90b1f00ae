"""The README and the capacity page have the figures of the committed report."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import CAPACITY, README, RESULTS
from benchmarks.capacity import Plan, plan_table, with_plan
from benchmarks.goals import Goal, Verdict, fact
from benchmarks.report import short_table, with_short_table


def test_the_readme_has_the_figures_of_the_report():
    figures = json.loads((RESULTS / "report.json").read_text())
    readme = README.read_text()
    assert len(short_table(figures).splitlines()) > 5
    assert with_short_table(readme, figures) == readme, "run: make bench"


def test_the_capacity_page_has_the_plan_of_the_report():
    figures = json.loads((RESULTS / "report.json").read_text())
    page = CAPACITY.read_text()
    assert with_plan(page, figures) == page, "run: make bench"


def test_a_plan_follows_from_the_costs():
    """A core that is busy for 60 % of the time does 0.6 s of work in each second."""
    turn = {"server_us": 60.0, "store_us": 6.0}
    variants = ("validation", "batch of 100", "first sight, batched", "Python client, 64 callers")
    facts = {
        "bytes of a session with its device": [2.0**30 / 1e6],
        "bytes of a session with its device, packed": [2.0**30 / 2e6],
        "bytes of a request": [125.0],
        "bytes of an answer": [12.5],
    }
    table = plan_table({"variants": {name: [turn] for name in variants}, "facts": facts}, Plan())
    rows = dict(row.strip("| ").split(" | ") for row in table.splitlines()[2:])
    assert rows["cores of servers, one call a validation"] == "100"
    assert rows["cores of Redis for the reads"] == "10"
    assert rows["memory of Redis, primaries alone"] == "1,000 GiB"
    assert rows["network from callers to servers"] == "1.0 Gbit/s"
    assert rows["network from servers to callers"] == "0.1 Gbit/s"
    assert rows["primaries of 16 GiB for this memory, at most 64"] == "53"


def test_changed_figures_change_the_readme():
    figures = json.loads((RESULTS / "report.json").read_text())
    figures["variants"]["empty RPC"] = [{"server_us": 200.0}]
    figures["variants"]["validation"] = [{"server_us": 80.0}, {"server_us": 100.0}]
    readme = with_short_table(README.read_text(), figures)
    assert "| `ValidateSession` | 90 | 0.45 |" in readme
    assert readme != README.read_text()


@pytest.mark.parametrize(
    ("at_least", "value", "words"),
    [
        (False, 1.0, "aim reached"),
        (False, 1.5, "reached"),
        (False, 1.6, "**not reached**"),
        (True, 1.6, "aim reached"),
        (True, 1.0, "reached"),
        (True, 0.9, "**not reached**"),
    ],
)
def test_a_figure_is_compared_with_its_limits(at_least: bool, value: float, words: str):
    must, aim = (1.0, 1.5) if at_least else (1.5, 1.0)
    goal = Goal("figure", must, aim, fact("none"), at_least)
    assert Verdict(goal, [value]).words() == words


def test_a_missing_figure_is_reported_as_not_measured():
    assert Verdict(Goal("figure", 2.0, 1.0, fact("none")), []).words() == "not measured"
