"""The port for metrics: it keeps few connections, answers the newest one, and limits what a
stranger can request.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from session_authority.runtime.metrics import Metrics
from session_authority.runtime.metrics_server import (
    MAX_CONNECTIONS,
    MAX_REQUEST_BYTES,
    Protection,
    TlsContext,
    serve_metrics,
)
from tests.support.ca import CA
from tests.support.waiting import wait_for

TOKEN = "a-token-of-the-metrics"
PATIENCE = 20.0  # In seconds.


def is_closed(connection: socket.socket) -> bool:
    """Returns whether the other side closed the connection."""
    connection.settimeout(0.05)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def served(protection: Protection | None = None, registry: CollectorRegistry | None = None) -> int:
    """A port that serves these metrics, or a default set of metrics."""
    if registry is None:
        registry = Metrics().registry
    return serve_metrics(registry, "127.0.0.1", 0, protection or Protection())


def fetched(port: int, **headers: str) -> bytes:
    """What a scrape returns."""
    request = Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
    with urlopen(request, timeout=PATIENCE) as answer:
        text: bytes = answer.read()
        return text


def test_the_oldest_open_connections_make_room():
    port = served()
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(2 * MAX_CONNECTIONS)
        ]
        assert b"session_authority_" in fetched(port)
        for connection in idle[:MAX_CONNECTIONS]:
            wait_for(partial(is_closed, connection), "the oldest connections to be closed")


def test_hundreds_of_connections_that_read_nothing_delay_no_scrape():
    port = served()
    with ExitStack() as stack:
        for _ in range(20 * MAX_CONNECTIONS):
            greedy = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            greedy.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"session_authority_" in fetched(port)


def test_a_request_without_an_end_is_disconnected():
    port = served()
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as endless:
        endless.sendall(b"GET /metrics HTTP/1.1\r\n")
        line = b"X-More: " + b"x" * 1000 + b"\r\n"
        with pytest.raises(OSError, match=r"reset|pipe|timed out"):
            # The sockets in between buffer some megabytes.
            endless.sendall(line * (2000 * MAX_REQUEST_BYTES // len(line)))
    assert b"session_authority_" in fetched(port)


class _Counting(Collector):
    """Counts how often it is collected."""

    def __init__(self) -> None:
        self.collected = 0

    def collect(self) -> Iterator[CounterMetricFamily]:
        self.collected += 1
        yield CounterMetricFamily("collected", "How often.", value=self.collected)


def test_a_flood_of_scrapes_causes_few_renderings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("session_authority.runtime.metrics_server._RENDERINGS_PER_SECOND", 0.0)
    monkeypatch.setattr("session_authority.runtime.metrics_server._RENDERINGS_AT_ONCE", 3.0)
    counting, registry = _Counting(), CollectorRegistry()
    registry.register(counting)
    port = served(registry=registry)
    before = counting.collected
    for _ in range(20):
        assert b"collected_total" in fetched(port)
    assert counting.collected == before + 3


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics?name[]=collected_total"),
        ("GET", "/metrics?x"),
        ("HEAD", "/metrics"),
        ("POST", "/metrics"),
        ("GET", "/favicon.ico"),
    ],
)
def test_other_requests_do_not_make_a_scrape_stale(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str
):
    monkeypatch.setattr("session_authority.runtime.metrics_server._RENDERINGS_PER_SECOND", 0.0)
    monkeypatch.setattr("session_authority.runtime.metrics_server._RENDERINGS_AT_ONCE", 3.0)
    counting, registry = _Counting(), CollectorRegistry()
    registry.register(counting)
    port = served(registry=registry)
    first = fetched(port)
    statuses = []
    for _ in range(5):
        request = Request(f"http://127.0.0.1:{port}{path}", method=method)
        try:
            urlopen(request, timeout=PATIENCE).close()
        except HTTPError as refused:
            statuses.append(refused.code)
    assert statuses[-2:] == [503, 503], "these requests have a budget of their own"
    second = fetched(port)
    assert b"collected_total" in second
    assert second != first
    gzipped = fetched(port, **{"Accept-Encoding": "gzip"})
    assert gzipped.startswith(b"\x1f\x8b"), "each form has a budget of its own"


def test_an_unknown_version_in_the_accept_header_gets_the_usual_format():
    port = served()
    for version in ("x", "99"):
        fetched(port, Accept=f"application/openmetrics-text; version={version}")
    request = Request(f"http://127.0.0.1:{port}/metrics")
    request.add_header("Accept", "application/openmetrics-text; version=99")
    with urlopen(request, timeout=PATIENCE) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1")


def test_a_page_that_is_too_old_is_not_served_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("session_authority.runtime.metrics_server._RENDERINGS_PER_SECOND", 0.0)
    monkeypatch.setattr("session_authority.runtime.metrics_server._RENDERINGS_AT_ONCE", 1.0)
    port = served()
    assert fetched(port) == fetched(port)
    monkeypatch.setattr("session_authority.runtime.metrics_server._MAX_PAGE_AGE_SECONDS", -1.0)
    with pytest.raises(HTTPError, match="503"):
        fetched(port)


def test_a_scrape_must_bring_the_token(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    port = served(Protection(token_file=file))
    assert b"session_authority_" in fetched(port, Authorization=f"Bearer {TOKEN}")
    for wrong in ("", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", f"Bearer x {TOKEN}"):
        with pytest.raises(HTTPError) as refused:
            fetched(port, Authorization=wrong)
        assert refused.value.code == 401
        assert refused.value.headers["WWW-Authenticate"] == "Bearer"
        assert b"session_authority" not in refused.value.read()
    file.write_text("another-token-of-the-metrics")
    with pytest.raises(HTTPError, match="401"):
        fetched(port, Authorization=f"Bearer {TOKEN}")
    assert fetched(port, Authorization="Bearer another-token-of-the-metrics")
    file.unlink()
    with pytest.raises(HTTPError, match="401"):
        fetched(port, Authorization="Bearer another-token-of-the-metrics")


def test_metrics_are_served_over_tls_with_the_service_s_certificate(tmp_path: Path):
    ca = CA(tmp_path / "ca")
    first = ca.sign(addresses=["127.0.0.1"])
    port = served(Protection(TlsContext(first.certificate, first.key)))
    trusting = ssl.create_default_context(cafile=str(ca.file))

    def serial() -> str:
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
            trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            certificate = secure.getpeercert()
            assert certificate
            return str(certificate["serialNumber"])

    with urlopen(f"https://127.0.0.1:{port}/metrics", timeout=PATIENCE, context=trusting) as page:
        assert b"session_authority_" in page.read()
    before = serial()
    with ExitStack() as stack:  # These clients never begin the TLS handshake.
        for _ in range(2 * MAX_CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert serial() == before
    first.key.write_text("half")
    assert serial() == before, "a broken change changes nothing"
    second = ca.sign(addresses=["127.0.0.1"])
    second.key.replace(first.key)
    second.certificate.replace(first.certificate)
    assert serial() != before
