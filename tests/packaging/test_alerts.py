"""Alerts fire when they should and only then, and each alert has a section that says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.packaging.alert_cases import CASES
from tests.support.backends import missing
from tests.support.fork_server import ROOT

FOLDER = ROOT / "packaging" / "monitoring"
PREFIX = "SessionAuthority"
PAGE = (ROOT / "docs" / "incidents.md").read_text()
RULES = [
    rule
    for name in ("recording.yaml", "alerts.yaml")
    for group in yaml.safe_load((FOLDER / name).read_text())["groups"]
    for rule in group["rules"]
]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        missing("promtool")
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def test_prometheus_accepts_the_configuration_and_its_rules():
    done = promtool("check", "config", FOLDER / "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES) - len(ALERTS)} rules found" in done.stdout
    assert f"{len(ALERTS)} rules found" in done.stdout


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_fires_when_it_should(tmp_path: Path, name: str):
    """With only the rules that the alert depends on: all rules would take minutes."""
    alert = ALERTS[name]
    rules = [rule for rule in RULES if rule.get("record", "no name") in alert["expr"]] + [alert]
    cases = [case for case in CASES if PREFIX + case.alert == name]
    [interval] = {case.interval for case in cases}
    files = {
        "rules.yaml": {"groups": [{"name": "all", "rules": rules}]},
        "test.yaml": {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": interval,
            "tests": [case.as_promtool() for case in cases],
        },
    }
    for file, content in files.items():
        (tmp_path / file).write_text(yaml.safe_dump(content))
    done = promtool("test", "rules", tmp_path / "test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_firing_and_silent():
    for fires in (True, False):
        seen = {PREFIX + case.alert for case in CASES if fires in case.fires.values()}
        assert seen == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_its_severity_and_links_to_its_section(name: str):
    alert = ALERTS[name]
    assert alert["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"{{{{ $externalLabels.docs }}}}/incidents.md#{name.lower()}"
    for text in (notes["summary"], notes["description"]):
        assert text == text.strip()
        assert "\n" not in text
    assert notes["description"].endswith(".")


def test_each_alert_has_its_section_and_each_section_its_alert():
    headings = re.findall(rf"^## ({PREFIX}\w+)$", PAGE, re.MULTILINE)
    assert headings == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_section_says_what_the_alert_means_where_to_look_and_what_to_do(name: str):
    section = PAGE.partition(f"## {name}\n")[2].partition("\n##")[0]
    parts = re.findall(r"^- \*\*([^*]+)\*\*", section, re.MULTILINE)
    assert parts == ["Means:", "Look:", "Do:"]
    look = section.partition("- **Look:**")[2].partition("- **Do:**")[0]
    assert "`" in look, "it names a query or a command"
