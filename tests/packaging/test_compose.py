"""compose.yaml: a compose implementation accepts it, and its services work together."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml  # type: ignore[import-untyped]

from tests.cli.harness import call
from tests.cli.test_serve import POLICY, wrong
from tests.relay.receiver import Receiver
from tests.support.backends import missing
from tests.support.ca import CA
from tests.support.fork_server import ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_for

CONFIG = ROOT / "packaging" / "valkey" / "valkey.conf"
OPERATIONS = ROOT / "docs" / "operations.md"
PREFIX = "SESSION_AUTHORITY_"
MOUNTED = "/etc/session-authority"
# What `check` may report on a busy machine.
BUSY = [("store", "Redis does not answer")]


def documented_block() -> str:
    """The page's commands, without the commands that need root or an engine."""
    text = OPERATIONS.read_text()
    [block] = re.findall(r"<!-- compose: begin -->\s+```sh\n(.*?)```", text, re.DOTALL)
    kept = [line for line in block.splitlines() if not line.startswith(("sudo ", "docker "))]
    return "\n".join(kept)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the page describes, made as the page says."""
    folder = tmp_path_factory.mktemp("compose")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-euc", documented_block()],
        cwd=folder,
        env={**os.environ, "PATH": path},
        check=True,
    )
    files = folder / "deployment"
    ca = CA(folder / "ca")
    for service, host in (("service", "localhost"), ("valkey", "valkey")):
        pair = ca.sign(hosts=[host, "localhost"])
        shutil.copy(pair.certificate, files / service / f"{service}.pem")
        shutil.copy(pair.key, files / service / f"{service}.key")
        (files / service / f"{service}.key").chmod(0o600)
    for reader in ("service", "relay", "valkey"):
        shutil.copy(ca.file, files / reader / "ca.pem")
    policy = files / "service" / "access.toml"
    policy.write_text(POLICY + 'certificates = ["spiffe://example.org/login"]\n')
    policy.chmod(0o644)
    endpoints = files / "relay" / "endpoints.toml"
    endpoints.touch(0o600)
    with Receiver().listening() as receiver:
        endpoints.write_text(receiver.toml())
    return files


@pytest.fixture(scope="module")
def services_of_all_profiles(deployment: Path) -> dict[str, Any]:
    """The services that the compose implementation reads from the file."""
    if shutil.which("docker-compose") is None:
        missing("docker-compose")
    done = subprocess.run(
        ["docker-compose", "--file", ROOT / "compose.yaml", "config"],
        env={**os.environ, "FILES": str(deployment)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return found


@pytest.fixture(scope="module")
def services(services_of_all_profiles: dict[str, Any]) -> dict[str, Any]:
    """The services that always start."""
    return {name: one for name, one in services_of_all_profiles.items() if "profiles" not in one}


@pytest.fixture(scope="module")
def monitoring(services_of_all_profiles: dict[str, Any]) -> dict[str, Any]:
    """The services of the profile `monitoring`."""
    return {
        name: one
        for name, one in services_of_all_profiles.items()
        if one.get("profiles") == ["monitoring"]
    }


def settings_of(service: dict[str, Any], folder: Path, port: int) -> dict[str, str]:
    """The settings of a service, with its files at their paths outside of the container."""
    address = f"@localhost:{port}"
    return {
        name.removeprefix(PREFIX): value.replace(MOUNTED, str(folder)).replace(
            "@valkey:6379", address
        )
        for name, value in service["environment"].items()
    }


@contextmanager
def valkey_of_compose(files: Path, folder: Path) -> Iterator[int]:
    """A server with the configuration of compose.yaml. Yields its port."""
    if shutil.which("redis-server") is None:
        missing("redis-server")
    port = free_port()
    text = CONFIG.read_text().replace("/etc/valkey/files", str(files / "valkey"))
    config = folder / "valkey.conf"
    config.write_text(text.replace("/data", str(folder)).replace("6379", str(port)))
    process = subprocess.Popen(
        ["redis-server", config, "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL
    )

    def listens() -> bool:
        with redis.Redis(port=port, ssl=True, ssl_cert_reqs="none") as stranger:
            try:
                stranger.ping()
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                assert process.poll() is None
        return False

    try:
        wait_for(listens, "the store to refuse a stranger", 30.0)
        yield port
    finally:
        process.kill()
        process.wait()


def test_each_service_runs_an_existing_command(services: dict[str, Any]):
    assert {name: service["command"] for name, service in services.items()} == {
        "service": ["serve"],
        "relay": ["relay"],
        "valkey": ["valkey-server", "/etc/valkey/valkey.conf"],
    }


def test_serve_finds_nothing_wrong_with_its_files_and_its_store(
    services: dict[str, Any], deployment: Path, tmp_path: Path
):
    with valkey_of_compose(deployment, tmp_path) as port:
        settings = settings_of(services["service"], deployment / "service", port)
        settings |= {"LISTEN": f"127.0.0.1:{free_port()}", "REDIS_TIMEOUT": "30s"}
        found = BUSY
        for _ in range(5):  # The store's time-outs are the test's own.
            if found == BUSY:
                found = wrong(call("check", **settings))
        assert found == []
        relay = settings_of(services["relay"], deployment / "relay", port)
        assert relay["RELAY_ENDPOINTS"] == str(deployment / "relay" / "endpoints.toml")
        status = call("relay", "status", **relay)
        assert status.exit_code == 0, status.output


def mounted(service: dict[str, Any], path: str) -> Path:
    """The path in this repository of a file in a container."""
    pairs = [volume.split(":")[:2] for volume in service["volumes"]]
    [(source, target)] = [pair for pair in pairs if Path(path).is_relative_to(pair[1])]
    found = Path(source) / Path(path).relative_to(target)
    assert found.is_relative_to(ROOT)
    return found


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_prometheus_scrapes_each_service_that_has_metrics(
    services: dict[str, Any], monitoring: dict[str, Any]
):
    [option] = [one for one in monitoring["prometheus"]["command"] if "config.file" in one]
    config = read_yaml(mounted(monitoring["prometheus"], option.partition("=")[2]))
    listens = {
        name: service.get("environment", {}).get(f"{PREFIX}METRICS_LISTEN", "")
        for name, service in services.items()
    }
    shown = [f"{name}:{listen.rpartition(':')[2]}" for name, listen in listens.items() if listen]
    jobs = [job["static_configs"] for job in config["scrape_configs"]]
    assert sorted(shown) == sorted(target for [job] in jobs for target in job["targets"])
    assert len(shown) == 2


def test_grafana_finds_prometheus_and_the_dashboards(monitoring: dict[str, Any]):
    folder = mounted(monitoring["grafana"], "/etc/grafana/provisioning")
    [source] = read_yaml(folder / "datasources" / "prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = read_yaml(folder / "dashboards" / "session-authority.yaml")["providers"]
    path = mounted(monitoring["grafana"], provider["options"]["path"])
    assert {file.stem for file in path.glob("*.json")} == {"service", "store", "relay", "clients"}


def test_monitoring_can_be_reached_on_loopback_only(monitoring: dict[str, Any]):
    ports = {name: service["ports"] for name, service in monitoring.items()}
    assert ports == {
        "prometheus": ["127.0.0.1:9090:9090/tcp"],
        "grafana": ["127.0.0.1:3000:3000/tcp"],
    }
