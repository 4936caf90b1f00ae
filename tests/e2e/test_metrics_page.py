"""docs/metrics.md and live processes show the same metrics, and no metric shows personal data."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from session_authority.v1 import session_authority_pb2 as pb
from session_authority_client import NearCache
from session_authority_client.metrics import ClientMetrics
from tests.relay.receiver import Receiver
from tests.support.backends import missing, valkey_server
from tests.support.commands import PATIENCE, Caller, Command, dev_server
from tests.support.fork_server import ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_for

PAGE = (ROOT / "docs" / "metrics.md").read_text()
ROW = re.compile(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)
WORKER_UP, STORE = "session_authority_worker_up", "session_authority_store_"
SERVE = ("Calls", "Sessions", "Redis", "Keys and files", "Watches", "The process")
SECTIONS = {
    "1": SERVE,
    "2": SERVE,
    "relay": ("Redis", "The process", "The relay"),
    "client": ("The Python client",),
}
# None of these texts may appear in metrics.
SECRETS = ("canary", "mallory", "192.0.2.77", "Firefox/")
pytestmark = [pytest.mark.one_acceptor, pytest.mark.slow]


def documented(*sections: str) -> dict[str, tuple[str, set[str]]]:
    """The type and the labels of each metric in some sections of the page, or in all sections."""
    texts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    chosen = [text for text in texts if not sections or text.partition("\n")[0] in sections]
    assert len(chosen) >= len(sections)
    return {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for text in chosen
        for name, kind, labels in ROW.findall(text)
    }


def shown(page: str) -> dict[str, tuple[str, set[str]]]:
    """The type and the labels of each metric of a live process. The text of the page describes
    `worker`.
    """
    found = {}
    for family in text_string_to_metric_families(page):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, labels if name == WORKER_UP else labels - {"worker"})
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The metrics after some use: of a service with one worker, of a service with two workers, of a
    relay, and of a client.
    """
    folder = tmp_path_factory.mktemp("metrics")
    with ExitStack() as stack:
        valkey = stack.enter_context(valkey_server(folder / "valkey"))
        receiver = stack.enter_context(Receiver().listening())
        endpoints = folder / "endpoints.toml"
        endpoints.write_text(receiver.toml())
        endpoints.chmod(0o600)
        url, found = f"redis://127.0.0.1:{valkey.port}", {}
        port = free_port()
        relay = Command(
            folder / "relay",
            ["relay"],
            {
                "REDIS_URL": url,
                "RELAY_ENDPOINTS": str(endpoints),
                "METRICS_LISTEN": f"127.0.0.1:{port}",
            },
        )
        stack.callback(relay.kill)
        relay.wait_for_event("relaying")
        for workers in ("1", "2"):
            metrics = free_port()
            with dev_server(
                folder / workers,
                f"127.0.0.1:{free_port()}",
                REDIS_URL=url,
                WORKERS=workers,
                METRICS_LISTEN=f"127.0.0.1:{metrics}",
            ) as server:
                server.wait_for_event("serving", int(workers))
                with Caller(server.address) as caller:
                    use_with_malice(caller)
                found[workers] = fetched(metrics)
        wait_for(lambda: "_deliveries_total{" in fetched(port), "a delivery", PATIENCE)
        wait_for(lambda: "backlog_events{" in fetched(port), "a look at the backlog", PATIENCE)
        found["relay"] = fetched(port)
        found["client"] = of_a_client()
        yield found


def fetched(port: int) -> str:
    """The result of a scrape."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        return text


def of_a_client() -> str:
    """The metrics of a client after one call, one retry and one batch were noted, with a cache."""
    registry = CollectorRegistry()
    metrics = ClientMetrics(registry)
    metrics.begin("ValidateSession")
    metrics.end("ValidateSession", grpc.StatusCode.UNAVAILABLE, 0.1)
    metrics.retry("ValidateSession")
    metrics.batch(3)
    cache = NearCache()
    metrics.cache(cache)
    return generate_latest(registry).decode()


def use_with_malice(caller: Caller) -> None:
    """Makes sign-ins and other calls, with everything that a stranger can send."""
    user_id = 'mallory"}1-canary\\'
    client = pb.ClientInfo(
        ip_address="192.0.2.77", display_name="canary", user_agent="Mozilla/5.0 Firefox/canary"
    )
    request = pb.IssueDeviceRequest(user_id=user_id, client=client, claims={"canary": "canary"})
    signed_in = caller.stub.IssueDevice(request, timeout=PATIENCE, wait_for_ready=True)
    secret = [("authorization", "Bearer canary"), ("x-canary", "canary")]
    token, device_id = signed_in.access_token, signed_in.device.device_id
    for other in (token, "canary", token[:-2]):
        validate = pb.ValidateSessionRequest(access_token=other, device_id=device_id)
        caller.stub.ValidateSession(validate, timeout=PATIENCE, metadata=secret)
    channel: Any = caller.channel
    for method in ("/canary.Service/Name", "/canary", "/session_authority.v1.Canary/canary"):
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(method)(b"canary", timeout=PATIENCE)
    revoke = pb.RevokeAllRequest(user_id=user_id, reason="canary")
    caller.stub.RevokeAll(revoke, timeout=PATIENCE)


@pytest.mark.parametrize("what", [*SECTIONS])
def test_the_page_and_a_live_process_show_the_same_metrics(pages: dict[str, str], what: str):
    live = shown(pages[what])
    expected = documented(*SECTIONS[what])
    if what != "2":
        expected.pop(WORKER_UP, None)
    if what == "relay":
        expected = {n: row for n, row in expected.items() if not n.startswith(STORE)}
    assert live.keys() == expected.keys()
    for name, (kind, labels) in live.items():
        assert kind == expected[name][0], name
        # A metric that was never counted has no labels yet.
        assert labels in (expected[name][1], set()), name


def test_a_query_names_only_metrics_of_the_page(pages: dict[str, str]):
    known = documented().keys()
    for block in re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL):
        for name in re.findall(r"\b((?:session_authority|grpc_server|process)_\w+)", block):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in known | {name} & known, name


@pytest.mark.parametrize("what", [*SECTIONS])
def test_no_metric_shows_personal_data_or_a_secret(pages: dict[str, str], what: str):
    for secret in SECRETS:
        assert secret not in pages[what]
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-|eyJ", pages[what]), "no UUID, no token"


def test_several_workers_are_summed(pages: dict[str, str]):
    for workers in ("1", "2"):
        issued = 'grpc_server_handled_total{grpc_code="OK",grpc_method="IssueDevice"'
        counts = [line for line in pages[workers].splitlines() if line.startswith(issued)]
        assert [line.rpartition(" ")[2] for line in counts] == ["1.0"]


@pytest.mark.parametrize("what", [*SECTIONS])
def test_promtool_finds_no_fault(pages: dict[str, str], what: str):
    if shutil.which("promtool") is None:
        missing("promtool")
    check = ["promtool", "check", "metrics"]
    found = subprocess.run(check, input=pages[what], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
