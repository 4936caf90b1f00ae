"""A real server sends its spans to a collector, and does its work whatever happens to the spans."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from session_authority.runtime.otel import _Watched, exporting, tracer_to
from session_authority.runtime.tracing import TracingError
from session_authority.v1 import session_authority_pb2 as pb
from tests.support.commands import PATIENCE, Caller, dev_server
from tests.support.otlp import collecting
from tests.support.ports import free_port

CALL = "session_authority.v1.SessionAuthorityService"


def test_spans_reach_a_collector_and_acts_reach_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    audit = tmp_path / "audit.log"
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "sessions-of-shop")
        with (
            dev_server(tmp_path / "data", TRACING="otlp", AUDIT_LOG=str(audit)) as server,
            Caller(server.address) as caller,
        ):
            signed_in = caller.sign_in("ada")
            assert caller.status(signed_in) == "ACTIVE"
            server.process.send_signal(signal.SIGHUP)
            audit.rename(tmp_path / "audit.log.1")
            caller.stub.RevokeAll(pb.RevokeAllRequest(user_id="ada"), timeout=PATIENCE)
            assert server.terminate() == 0
            assert "traces_not_exported" not in server.events()
        names = collector.names()
        assert {f"{CALL}/{name}" for name in ("IssueDevice", "ValidateSession", "RevokeAll")} <= {
            *names
        }
        assert any("HGET" in name for name in names)
        assert any("revoke" in name for name in names)
        assert collector.services() == {"sessions-of-shop"}
    [line] = [json.loads(line) for line in audit.read_text().splitlines()]
    assert (line["action"], line["user_id"]) == ("RevokeAll", "ada")
    [span] = [span for span in collector.spans() if span.name.endswith("/RevokeAll")]
    assert line["trace_id"] == span.trace_id.hex()


def test_an_unreachable_collector_delays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with (
        dev_server(tmp_path / "data", TRACING="otlp") as server,
        Caller(server.address) as caller,
    ):
        for _ in range(20):
            caller.sign_in("ada")
        server.wait_for_event("traces_not_exported")
        assert server.terminate() == 0
        assert server.events().count("traces_not_exported") == 1
        assert not [line for line in server.errors.splitlines() if not line.startswith("{")]


class Exporter(SpanExporter):
    """An exporter that hangs until the test releases it, or fails."""

    def __init__(self, *, hangs: bool) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        if not hangs:
            self.go.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.go.wait(PATIENCE)
        return SpanExportResult.FAILURE


def test_a_hung_exporter_delays_no_call_and_fills_no_memory():
    exporter = Exporter(hangs=True)
    processor = BatchSpanProcessor(exporter, max_queue_size=64, max_export_batch_size=8)
    tracer = tracer_to(processor)
    for _ in range(1000):
        trace = tracer.call(f"/{CALL}/GetSigningKeys", ())
        trace.enter()
        trace.leave()
        trace.end("OK", known=True)
        assert len(processor._batch_processor._queue) <= 64
    assert exporter.entered.wait(PATIENCE)
    exporter.go.set()
    tracer.shut_down()


def test_lost_spans_are_logged_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, logged: list[MutableMapping[str, Any]]
):
    moment = 100.0
    monkeypatch.setattr("session_authority.runtime.otel.monotonic", lambda: moment)
    watched = _Watched(Exporter(hangs=False))
    spans: Any = [object()] * 3
    for step in (0.0, 30.0, 29.0, 2.0):
        moment += step
        watched.export(spans)
    told = [(line["event"], line["spans"]) for line in logged]
    assert told == [("traces_not_exported", 3), ("traces_not_exported", 9)]


@pytest.mark.parametrize(
    "variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]
)
def test_an_unknown_protocol_is_named(monkeypatch: pytest.MonkeyPatch, variable: str):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv(variable, "http/protobuf")
    with pytest.raises(TracingError, match=f"^{variable}: must be grpc"):
        exporting()


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ("", "session-authority"),
        ("team=accounts", "session-authority"),
        ("team=accounts,service.name=sessions-of-shop", "sessions-of-shop"),
    ],
)
def test_the_service_has_a_name_in_all_spans(
    monkeypatch: pytest.MonkeyPatch, attributes: str, name: str
):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)
    spans = InMemorySpanExporter()
    with tracer_to(SimpleSpanProcessor(spans)).delivery("mailer", "mail.example", 443):
        pass
    [span] = spans.get_finished_spans()
    assert span.resource.attributes["service.name"] == name


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_SAMPLER", "nonsense"),
        ("OTEL_TRACES_SAMPLER_ARG", "1%"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
    ],
)
def test_a_sampler_that_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv(variable, value)
    with pytest.raises(TracingError, match=f"^{variable}: must be"):
        exporting()


@pytest.mark.parametrize("sampler", ["", "always_on", "TraceIdRatio", "parentbased_traceidratio"])
def test_a_sampler_that_exists_is_used(monkeypatch: pytest.MonkeyPatch, sampler: str):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.01")
    exporting().shut_down()


def test_a_bad_variable_that_the_import_reads_is_named(monkeypatch: pytest.MonkeyPatch):
    code = (
        "from session_authority.runtime.tracing import *\n"
        "try:\n"
        "    with tracing(TracingMode.OTLP): pass\n"
        "except TracingError as error: print(error)"
    )
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "x")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("the variables OTEL_* can't be used: OTEL_SPAN_ATTRIBUTE_COUNT")


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.exporter"])
def test_without_the_extra_the_error_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
):
    block = tmp_path / "site"
    block.mkdir()
    (block / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    code = (
        "from session_authority.runtime.tracing import *\n"
        "with tracing(TracingMode.OFF): pass\n"
        "try:\n"
        "    with tracing(TracingMode.OTLP): pass\n"
        "except TracingError as error: print(error)"
    )
    monkeypatch.setenv("PYTHONPATH", f"{block}:.")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ("TRACING=otlp needs OpenTelemetry: install session-authority[tracing]\n")


def test_no_tracing_module_is_imported_while_tracing_is_off():
    """Except the modules that redis-py imports by itself where OpenTelemetry is installed."""
    code = (
        "import sys, redis.asyncio\n"
        "before = set(sys.modules)\n"
        "import session_authority.processes.serve, session_authority.processes.relay\n"
        "print([n for n in sys.modules.keys() - before if n.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
