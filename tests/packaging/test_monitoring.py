"""A real Prometheus scrapes a real server, a relay and a client under a little load: the series
that alerts and dashboards read exist, and an alert comes and goes with Redis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from session_authority.v1 import session_authority_pb2 as pb
from session_authority_client import NearCache, SessionAuthority
from session_authority_client.metrics import ClientMetrics
from tests.processes.harness import add_signing_key
from tests.relay.receiver import Receiver
from tests.support.backends import ValkeyServer, valkey_server
from tests.support.commands import PATIENCE, Caller, Command
from tests.support.fork_server import ROOT
from tests.support.ports import free_port
from tests.support.prometheus import (
    Prometheus,
    dashboards,
    names_in,
    prometheus,
    queries,
    rules,
)
from tests.support.waiting import wait_for

SERVICE, RELAY, CLIENT = "session-authority", "session-authority-relay", "shop"
DASHBOARDS = dashboards()
# By dashboard, the panels that are empty as long as there is no fault.
EMPTY = {
    "service": {
        "Calls that failed",
        "Calls that the caller got wrong",
        "Certificate ends in",
        "Replays",
    },
    "store": {"Errors"},  # The figure and the graph with this title.
    "relay": set[str](),
    "clients": {"Tried again"},
}
DEADLINE = timedelta(seconds=PATIENCE)
SETTINGS = {"ALLOW_UNSAFE": "open-access,volatile-store,short-grace", "REDIS_TIMEOUT": "5s"}


@dataclass
class Stage:
    """The scraped processes, and the Prometheus that scrapes them."""

    valkey: ValkeyServer
    prometheus: Prometheus
    names: set[str]
    """The names of all series of the server, the relay and the client."""


def shown(port: int) -> str:
    """The metrics of a process."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        return text


def names_of(text: str) -> set[str]:
    """The names of the series of these metrics, including series that have no value yet."""
    names = {"up", *re.findall(r"^([a-z_][a-z0-9_]*)[{ ]", text, re.MULTILINE)}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        suffixes = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
        names |= {name + suffix for suffix in suffixes}
    return names


def play(address: str, client: SessionAuthority, rounds: range) -> None:
    """Makes sign-ins, validations, renewals and revocations, and validations over a client with a
    cache.
    """
    with Caller(address) as caller:
        for number in rounds:
            issued = caller.sign_in(f"user-{number}")
            assert caller.status(issued) == "ACTIVE"
            for _ in range(2):
                client.validate_session(
                    issued.access_token, issued.device.device_id, timeout=DEADLINE
                )
            renewal = pb.RenewSessionRequest(
                access_token=issued.access_token, device_id=issued.device.device_id
            )
            caller.stub.RenewSession(renewal, timeout=PATIENCE)
            caller.stub.RevokeAll(pb.RevokeAllRequest(user_id=f"user-{number}"), timeout=PATIENCE)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("monitoring")
    add_signing_key(folder / "keys")
    ports = {SERVICE: free_port(), RELAY: free_port(), CLIENT: free_port()}
    with ExitStack() as stack:
        valkey = stack.enter_context(valkey_server(folder / "valkey", appendonly="yes"))
        receiver = stack.enter_context(Receiver().listening())
        endpoints = folder / "endpoints.toml"
        endpoints.touch(0o600)
        endpoints.write_text(receiver.toml())
        common = {"REDIS_URL": valkey.url, **SETTINGS}
        address = f"127.0.0.1:{free_port()}"
        server = {
            "KEYS": str(folder / "keys"),
            "LISTEN": address,
            "METRICS_LISTEN": f"127.0.0.1:{ports[SERVICE]}",
        }
        relay = {
            "RELAY_ENDPOINTS": str(endpoints),
            "METRICS_LISTEN": f"127.0.0.1:{ports[RELAY]}",
        }
        for command, settings in (("serve", server), ("relay", relay)):
            started = Command(folder / command, [command], {**common, **settings})
            stack.callback(started.kill)
        registry = CollectorRegistry()
        client = stack.enter_context(
            SessionAuthority(address, cache=NearCache(), metrics=ClientMetrics(registry))
        )
        web, thread = start_http_server(ports[CLIENT], "127.0.0.1", registry)
        stack.callback(thread.join, PATIENCE)
        stack.callback(web.server_close)
        stack.callback(web.shutdown)
        found = stack.enter_context(prometheus(folder, ports))
        with Caller(address) as caller:
            watch = caller.stub.WatchEvents(pb.WatchEventsRequest(), wait_for_ready=True)
            stack.callback(watch.cancel)
            next(iter(watch))
            play(address, client, range(10))
            seen = 'grpc_server_handled_total{grpc_method="ValidateSession"}'
            wait_for(lambda: found.query(seen), "the load to be scraped", PATIENCE)
            play(address, client, range(10, 20))
            wait_for(lambda: found.query(f"increase({seen}[1m]) > 0"), "a rate", PATIENCE)
            wait_for(receiver.ids, "an event to be delivered", PATIENCE)
            names = set().union(*(names_of(shown(port)) for port in ports.values()))
            yield Stage(valkey, found, names)


def test_rules_read_only_series_that_exist(stage: Stage):
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = set().union(*(names_in(rule["expr"]) for rule in rules()))
    assert asked - stage.names - recorded == set()


def queries_of(page: str, names: set[str]) -> list[str]:
    """The queries of a page: its blocks, and each piece of code that names a series."""
    text = (ROOT / "docs" / page).read_text()
    found = []
    for block in re.findall(r"^```promql\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        found += re.split(r"\n(?! )", block.strip())  # A continued line is indented.
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    pieces = (" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", prose))
    return found + [one for one in pieces if names_in(one) & names and " up " not in one]


@pytest.mark.parametrize("page", ["incidents.md", "troubleshooting.md", "operations.md"])
def test_a_page_reads_only_series_that_exist(stage: Stage, page: str):
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    shown = r"(?:\w+:)?(?:grpc_server|session_authority)_\w+(?::\w+)?|process_\w+"
    asked = set(re.findall(rf"\b(?:{shown})\b", (ROOT / "docs" / page).read_text()))
    assert asked - stage.names - recorded == set()
    found = queries_of(page, stage.names | recorded)
    least = {"incidents.md": 32, "troubleshooting.md": 8, "operations.md": 1}
    assert len(found) >= least[page]
    for query in found:
        stage.prometheus.query(query)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_reads_only_series_that_exist(stage: Stage, name: str):
    expressions = [one for some in queries(DASHBOARDS[name]).values() for one in some]
    asked = {name for one in expressions for name in names_in(one) if ":" not in name}
    assert asked - stage.names == set()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_query_of_a_dashboard_is_answered(stage: Stage, name: str):
    asked = [(title, one) for title, some in queries(DASHBOARDS[name]).items() for one in some]

    def unanswered() -> set[str]:
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda pair: (pair[0], stage.prometheus.query(pair[1])), asked)
            return {title for title, answer in answers if not answer} - EMPTY[name]

    # Recording rules have no value until they are evaluated.
    wait_for(lambda: not unanswered(), "every panel to have something", PATIENCE)


def test_an_alert_comes_and_goes_with_redis(stage: Stage):
    name = "SessionAuthorityStoreDown"

    def firing() -> bool:
        return bool(stage.prometheus.alerts(name))

    assert not firing()
    stage.valkey.kill()
    try:
        wait_for(firing, "the alert to fire", PATIENCE)
        [alert] = stage.prometheus.alerts(name)
    finally:
        stage.valkey.start()
    assert alert["labels"]["severity"] == "critical"
    assert alert["annotations"]["summary"].endswith(" has no Redis")
    assert alert["annotations"]["runbook_url"] == f"docs/incidents.md#{name.lower()}"
    wait_for(lambda: not firing(), "the alert to be resolved", PATIENCE)
