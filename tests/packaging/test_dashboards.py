"""The committed dashboards are built from their code, and Prometheus understands their queries."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from scripts.dashboards.__main__ import FOLDER, PAGES
from tests.packaging.test_alerts import promtool
from tests.support.prometheus import dashboards, names_in, queries, rules

DASHBOARDS = dashboards()


def test_the_committed_dashboards_are_what_the_code_builds():
    built = {page.name: page.as_json() for page in PAGES}
    assert {path.stem: path.read_text() for path in FOLDER.glob("*.json")} == built


@pytest.mark.parametrize("name", DASHBOARDS)
def test_prometheus_understands_each_query(tmp_path: Path, name: str):
    """As recording rules, because promtool checks expressions that way."""
    asked = itertools.chain.from_iterable(queries(DASHBOARDS[name]).values())
    named = [{"record": f"a:b:c{number}", "expr": query} for number, query in enumerate(asked)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": named}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(named)} rules found" in done.stdout


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_panel_has_a_description_and_overlaps_no_other(name: str):
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] == "row" or panel["description"].endswith("."), panel["title"]
        at = panel["gridPos"]
        rows, columns = range(at["y"], at["y"] + at["h"]), range(at["x"], at["x"] + at["w"])
        assert columns[-1] < 24
        taken = set(itertools.product(rows, columns))
        assert not taken & places, panel["title"]
        places |= taken


def test_every_rule_that_a_dashboard_reads_is_recorded():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {
        name
        for dashboard in DASHBOARDS.values()
        for expressions in queries(dashboard).values()
        for expression in expressions
        for name in names_in(expression)
        if ":" in name
    }
    assert asked
    assert asked <= recorded


def test_the_names_in_an_expression_are_found():
    expression = 'max by (a_b) (x_y{c_d="e_f"} / z_total[5m]) > 0 and rate(up[1m])'
    assert names_in(expression) == {"x_y", "z_total", "up"}
