"""A real Prometheus with the project's rules, at the pace of a test; and the queries of the
project's files.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml  # type: ignore[import-untyped]

from tests.support.backends import missing
from tests.support.fork_server import ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_for

MONITORING = ROOT / "packaging" / "monitoring"
PATIENCE = 40.0  # Seconds; for conditions that a test awaits.
_PACE = "1s"
_DURATION = re.compile(r"\[\$__rate_interval\]")


def rules() -> list[dict[str, Any]]:
    """All rules, in their order."""
    return [
        rule
        for name in ("recording.yaml", "alerts.yaml")
        for group in yaml.safe_load((MONITORING / name).read_text())["groups"]
        for rule in group["rules"]
    ]


def dashboards() -> dict[str, dict[str, Any]]:
    """The committed dashboards, by name."""
    files = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


def queries(dashboard: Mapping[str, Any]) -> dict[str, list[str]]:
    """A dashboard's queries by panel, as Grafana sends them if everything is selected."""
    found: dict[str, list[str]] = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"].replace("$job", ".*").replace("$instance", ".*")
            found.setdefault(panel["title"], []).append(_DURATION.sub("[1m]", text))
    return found


def names_in(expression: str) -> set[str]:
    """The series that an expression names."""
    bare = re.sub(r"\b(by|ignoring|on|group_left|without)\s*\([^)]*\)", "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\"[^\"]*\"", "", bare)
    words = re.findall(r"\b[a-z][a-zA-Z0-9_:]*\b(?!\s*\()", bare)
    return {word for word in words if "_" in word or word == "up"} - {"group_left", "group_right"}


class Prometheus:
    """A running Prometheus."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/api/v1"

    def ask(self, what: str, **parameters: str) -> Any:
        """The data of an answer. Raises AssertionError if the answer is an error."""
        with urlopen(f"{self._url}/{what}?{urlencode(parameters)}", timeout=PATIENCE) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[Any]:
        """The series that an expression returns now."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """The alerts of this name that fire."""
        return [
            alert
            for alert in self.ask("alerts")["alerts"]
            if alert["labels"]["alertname"] == name and alert["state"] == "firing"
        ]

    def is_ready(self) -> bool:
        """Returns whether it answers queries."""
        try:
            return bool(self.query("vector(1)"))
        except URLError:
            return False


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes ports on loopback, by job. Its alerts fire as soon as they are
    true: `promtool test rules` tests how long they must be true.
    """
    if shutil.which("prometheus") is None:
        missing("prometheus")
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    config["global"] |= {"scrape_interval": _PACE, "evaluation_interval": _PACE}
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for job, port in targets.items()
    ]
    for name in config["rule_files"]:
        text = re.sub(r"^ +for: .*\n", "", (MONITORING / name).read_text(), flags=re.MULTILINE)
        (folder / name).write_text(text)
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        found = Prometheus(address)
        wait_for(found.is_ready, "Prometheus to answer", PATIENCE)
        yield found
    finally:
        process.kill()
        process.wait()
