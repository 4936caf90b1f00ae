"""The chart: its values are documented and checked, and its pods fit the service. `make chart`
checks that Kubernetes accepts the manifests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from session_authority.gateway.configuration import load_gateway_config
from session_authority.processes.gateway_keys import AssertionKeys
from session_authority.runtime.settings import Settings
from tests.cli.harness import call
from tests.cli.test_serve import POLICY, wrong
from tests.packaging.manifests import (
    MANIFESTS,
    Kinds,
    entries_of_secrets,
    kinds,
    pods,
    variables,
)
from tests.packaging.secret_volumes import SecretVolume
from tests.support.backends import ValkeyServer, missing, valkey_server
from tests.support.fork_server import ROOT
from tests.support.ports import free_port

CHART = ROOT / "packaging" / "helm" / "session-authority"
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()


def helm(*values: str) -> subprocess.CompletedProcess[str]:
    """Renders the chart with values like `replicas=2`, which are JSON."""
    path = f"{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}"
    program = shutil.which("helm", path=path)
    if program is None:
        missing("helm")
    options = [option for value in values for option in ("--set-json", value)]
    command = [str(program), "template", "session-authority", str(CHART), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(*values: str) -> Kinds:
    done = helm(*values)
    assert done.returncode == 0, done.stderr
    return kinds(done.stdout)


@pytest.fixture(scope="module")
def full() -> Kinds:
    """The committed manifest with all parts of the chart."""
    return kinds((MANIFESTS / "full.yaml").read_text())


def leaves(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values that a user can set, by path. `resources` counts as one value."""
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and value and name != "resources":
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def table(name: str) -> list[list[str]]:
    """The rows of a table of the page."""
    [block] = re.findall(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", PAGE, re.DOTALL)
    return [[cell.strip() for cell in row.split(" | ")] for row in block.splitlines()[2:]]


def test_every_value_is_documented_with_its_default():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    documented = {
        row[0].removeprefix("| ").strip("`"): yaml.safe_load(row[1].strip("`"))
        for row in table("values")
    }
    assert documented == dict(leaves(values))


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("replica=3", "replica"),
        ('replicas="three"', "replicas"),
        ("replicas=-1", "replicas"),
        ('settings={"REDIS_URL":"redis://:secret@store"}', "settings.REDIS_URL"),
        ('settings={"token_ttl":"1h"}', "token_ttl"),
        ('settings={"TOKEN_TTL":["1h"]}', "settings/TOKEN_TTL"),
        ('secrets.keys=""', "secrets/keys"),
        ('secrets.policy="Not A Name"', "secrets/policy"),
        ('image.digest="sha256:12"', "image/digest"),
        ("ports.grpc=443", "ports/grpc"),
        ("drainSeconds=1.5", "drainSeconds"),
        ("preStopSeconds=0", "preStopSeconds"),
        ('relay={"enabled":"yes"}', "relay/enabled"),
        ('relay={"enabled":true,"settings":{"LISTEN":"0.0.0.0:1"}}', "relay.settings.LISTEN"),
        ('networkPolicy.callers={"podSelector":{}}', "networkPolicy/callers"),
        ('monitoring.interval="often"', "monitoring/interval"),
        ("disruptionBudget.maxUnavailable=0", "disruptionBudget/maxUnavailable"),
        ('pod.labels={"a":1}', "pod/labels"),
        ('environment={"SESSION_AUTHORITY_TRACING":"otlp"}', "SESSION_AUTHORITY_TRACING"),
        ('environment={"OTEL_SDK_DISABLED":["x"]}', "environment/OTEL_SDK_DISABLED"),
    ],
)
def test_the_error_for_a_wrong_value_names_the_value(value: str, named: str):
    refused = helm(value)
    assert refused.returncode != 0
    assert named in refused.stderr
    assert "secret@" not in refused.stderr


def test_a_setting_that_the_chart_sets_itself_is_refused(full: Kinds):
    own = {"REDIS_URL", *(name for _, pod in pods(full) for name in variables(pod))} - {"ASSURANCE"}
    parts = (CHART / "templates" / "_parts.tpl").read_text()
    [refused] = re.findall(r"\$own := list(.*?) -}}", parts, re.DOTALL)
    assert own | {"CONFIG"} == set(re.findall(r'"([A-Z_]+)"', refused))


def test_pods_use_only_existing_settings(full: Kinds):
    found = {part: variables(pod) for part, pod in pods(full)}
    for part in found:
        assert {name.lower() for name in found[part]} <= Settings.model_fields.keys()
    read = (
        (ROOT / "docs" / "gateway_file.md").read_text().partition("other settings the gateway")[2]
    )
    read_by_gateway = {"GATEWAY_CONFIG", *re.findall("`([A-Z_]+)`", read.partition(".")[0])}
    assert found["session-authority-gateway"].keys() <= read_by_gateway


def test_a_gateway_accepts_the_configuration_of_the_docs(full: Kinds, tmp_path: Path):
    """With the ports, the folder and the drain time that the chart gives it."""
    pod = dict(pods(full))["session-authority-gateway"]
    [container] = pod["containers"]
    entries = entries_of_secrets(tmp_path / "made", POLICY)
    example = re.search(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert example
    [keys] = re.findall(r'^.*`\[assertions\]`.* has `(keys = "/.+?")`', PAGE, re.MULTILINE)
    assertions = f'[assertions]\nissuer = "https://app.example"\n{keys}\n'
    mounted = str(tmp_path / "etc" / "session-authority")
    text = (example[1] + assertions).replace("/etc/session-authority", mounted)
    held = {
        "gateway": {"gateway.toml": text.encode(), **entries["tls"], **entries["client-ca"]},
        "assertion-keys": entries["keys"],
    }
    folders = {
        mount["name"]: Path(mount["mountPath"].replace("/etc/session-authority", mounted))
        for mount in container["volumeMounts"]
    }
    for volume in pod["volumes"]:
        written = SecretVolume(folders[volume["name"]], volume["secret"]["defaultMode"])
        written.write(held[volume["name"]])
    path = variables(pod)["GATEWAY_CONFIG"].replace("/etc/session-authority", mounted)
    config = load_gateway_config(Path(path))
    assert config.assertions
    assert AssertionKeys(config.assertions).jwks()
    assert config.http
    assert config.grpc
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listens = {"http": config.http.listen, "grpc": config.grpc.listen}
    assert {name: ports[name] for name in listens} == {
        name: listen and listen.port for name, listen in listens.items()
    }
    seconds = config.drain_timeout.total_seconds()
    ends = container["lifecycle"]["preStop"]["sleep"]["seconds"] + seconds
    assert pod["terminationGracePeriodSeconds"] >= ends + 5
    assert config.flow.trusted_proxies


def test_settings_become_variables():
    numbers = '{"ASSURANCE":"aal2","MAX_IN_FLIGHT":1000000,"REFLECTION":true}'
    [(_, pod)] = pods(rendered(f"settings={numbers}"))
    found = variables(pod)
    assert found["ASSURANCE"] == "aal2"
    assert (found["MAX_IN_FLIGHT"], found["REFLECTION"]) == ("1000000", "true")


def test_no_pod_can_write_gain_rights_or_call_kubernetes(full: Kinds):
    for name, pod in pods(full):
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }, name
        security = pod["securityContext"]
        assert security["runAsNonRoot"]
        assert {security[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {65532}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert all(mount["readOnly"] for mount in container["volumeMounts"])
        assert {tuple(volume) for volume in pod["volumes"]} == {("name", "secret")}
        assert {volume["secret"]["defaultMode"] for volume in pod["volumes"]} == {0o440}
        assert (
            "limits" not in container["resources"] or "cpu" not in container["resources"]["limits"]
        )


@pytest.mark.parametrize(("pause", "drain"), [(1, 0), (10, 10), (30, 300)])
def test_a_pod_has_enough_time_to_end(pause: int, drain: int):
    values = [f"preStopSeconds={pause}", f"drainSeconds={drain}", "relay.enabled=true"]
    for name, pod in pods(rendered(*values)):
        [container] = pod["containers"]
        sleep = container.get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})
        ends = sleep["preStop"]["sleep"]["seconds"] + drain
        assert variables(pod)["DRAIN_TIMEOUT"] == f"{drain}s"
        assert pod["terminationGracePeriodSeconds"] >= ends + 5, name


def test_a_rollout_starts_a_new_pod_before_it_ends_an_old_one(full: Kinds):
    for deployment in full["Deployment"].values():
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert full["Deployment"]["session-authority"]["spec"]["minReadySeconds"] == 30
    assert "replicas" not in full["Deployment"]["session-authority"]["spec"], "the autoscaler's"


def test_an_outage_of_redis_restarts_no_pod(full: Kinds):
    [container] = dict(pods(full))["session-authority"]["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["grpc"] == {"port": 50052, "service": "liveness"}
    assert container["readinessProbe"]["grpc"] == {"port": 50052}


def test_every_secret_is_documented_with_its_entries(full: Kinds):
    documented = {row[0].removeprefix("| ").strip("`"): row[1] for row in table("secrets")}
    mounted = {}
    for _, pod in pods(full):
        [container] = pod["containers"]
        folders = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        for volume in pod["volumes"]:
            mounted[folders[volume["name"]]] = volume["secret"]["secretName"]
        for value in variables(pod).values():
            folder, _, entry = value.rpartition("/")
            if folder in mounted:
                assert f"`{entry}`" in documented[mounted[folder]]
    assert set(mounted.values()) == documented.keys()


def test_prometheus_gets_all_rules():
    [rules] = rendered("monitoring.rules=true")["PrometheusRule"].values()
    files = sorted((ROOT / "packaging" / "monitoring").glob("[ar]*.yaml"))
    assert [path.stem for path in files] == ["alerts", "recording"]
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    assert rules["spec"]["groups"] == groups


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ('settings.METRICS_TOKEN_FILE="/token"', "monitoring.authorization"),
        ('relay.settings.METRICS_TOKEN_FILE="/token"', "monitoring.authorization"),
        ("settings.METRICS_TLS=true", "monitoring.tlsConfig"),
        ('settings.METRICS_TLS="on"', "monitoring.tlsConfig"),
    ],
)
def test_a_monitor_that_no_pod_would_answer_is_refused(setting: str, named: str):
    refused = helm("monitoring.podMonitor=true", setting)
    assert refused.returncode != 0
    assert named in refused.stderr


def test_prometheus_scrapes_each_part_in_the_way_the_part_requires():
    token, tls = {"credentials": {"name": "policy", "key": "token"}}, {"serverName": "service"}
    values = [
        "monitoring.podMonitor=true",
        "settings.METRICS_TLS=true",
        'settings.METRICS_TOKEN_FILE="/token"',
        f"monitoring.authorization={json.dumps(token)}",
        f"monitoring.tlsConfig={json.dumps(tls)}",
    ]
    [monitor] = rendered(*values)["PodMonitor"].values()
    endpoints = monitor["spec"]["podMetricsEndpoints"]
    [service] = (each for each in endpoints if each["relabelings"][0]["regex"] == "service")
    assert (service["scheme"], service["authorization"], service["tlsConfig"]) == (
        "https",
        token,
        tls,
    )
    others = [each["scheme"] for each in endpoints if each is not service]
    assert others == ["http", "http"], "they have no certificate"


@pytest.mark.parametrize("part", ["service", "relay", "gateway"])
def test_without_a_scraper_the_metrics_are_closed(part: str):
    values = ["networkPolicy.scrapers=[]", "relay.enabled=true", "gateway.enabled=true"]
    name = "session-authority" + ("" if part == "service" else f"-{part}")
    spec = rendered(*values)["NetworkPolicy"][name]["spec"]
    opened = [port["port"] for rule in spec["ingress"] or [] for port in rule["ports"]]
    assert "Ingress" in spec["policyTypes"]
    assert "metrics" not in opened


def test_traces_reach_their_collector():
    endpoint = "http://collector:4317"
    plain = rendered("relay.enabled=true")
    traced = rendered(
        "relay.enabled=true", f'environment={{"OTEL_EXPORTER_OTLP_ENDPOINT":"{endpoint}"}}'
    )
    for name, pod in pods(traced):
        assert variables(pod)["OTEL_EXPORTER_OTLP_ENDPOINT"] == endpoint
        assert 4317 in _reached(traced, name)
        assert 4317 not in _reached(plain, name)


def _reached(manifest: Kinds, name: str) -> list[int]:
    """The ports outside that a part may connect to."""
    rules = manifest["NetworkPolicy"][name]["spec"]["egress"]
    return [port["port"] for rule in rules for port in rule["ports"]]


def test_prometheus_names_the_parts_as_the_alerts_do(full: Kinds):
    [monitor] = full["PodMonitor"].values()
    jobs = {}
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        kept, named = endpoint["relabelings"]
        assert kept["action"] == "keep"
        jobs[kept["regex"]] = named["replacement"]
    assert jobs == {
        "service": "session-authority",
        "relay": "session-authority-relay",
        "gateway": "session-authority-gateway",
    }
    for _, pod in pods(full):
        [container] = pod["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert variables(pod)["METRICS_LISTEN"] == f"0.0.0.0:{ports[endpoint['port']]}"


def test_each_selector_selects_exactly_the_pods_of_its_part(full: Kinds):
    """A Service, a budget and a policy each select the pods that they are for, and no others."""
    labels = {
        name: deployment["spec"]["template"]["metadata"]["labels"].items()
        for name, deployment in full["Deployment"].items()
    }
    selectors = {
        **{f"Service/{name}": thing["spec"]["selector"] for name, thing in full["Service"].items()},
        **{
            f"{kind}/{name}": thing["spec"][field]["matchLabels"]
            for kind, field in (
                ("Deployment", "selector"),
                ("NetworkPolicy", "podSelector"),
                ("PodDisruptionBudget", "selector"),
            )
            for name, thing in full[kind].items()
        },
    }
    for name, selector in selectors.items():
        found = [part for part, has in labels.items() if selector.items() <= has]
        assert found == [name.partition("/")[2]], name


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey_server(tmp_path_factory.mktemp("valkey"), appendonly="yes") as server:
        yield server


def test_the_service_finds_nothing_wrong_with_its_secrets(
    full: Kinds, valkey: ValkeyServer, tmp_path: Path
):
    """With the settings of the manifest, and files as Kubernetes mounts them."""
    pod = dict(pods(full))["session-authority"]
    entries = entries_of_secrets(tmp_path / "made", POLICY)
    mounts = tmp_path / "etc" / "session-authority"
    for volume in pod["volumes"]:
        name, mode = volume["name"], volume["secret"]["defaultMode"]
        SecretVolume(mounts / name, mode).write(entries[name])
    settings = {
        name: value.replace("/etc/session-authority", str(mounts))
        for name, value in variables(pod).items()
    }
    settings |= {"REDIS_URL": valkey.url, "REDIS_TIMEOUT": "30s"}
    for name in ("LISTEN", "HEALTH_LISTEN", "METRICS_LISTEN", "BEARER_LISTEN"):
        settings[name] = f"127.0.0.1:{free_port()}"
    assert wrong(call("check", **settings)) == []
