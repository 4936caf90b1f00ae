"""Each call of a known caller has a span, unless the caller samples no spans. The span is part of
the trace that the caller began, or begins a trace. No personal data is on the span.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from redis.exceptions import TimeoutError as TimedOut

from session_authority.domain.errors import StoreUnavailable
from session_authority.runtime import tracing
from session_authority.runtime.otel import tracer_to
from session_authority.store.driver.questions import Question
from session_authority.store.driver.traced_batch import TracedBatch
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import LAPTOP_AGENT, SERVICE, LogStream, Stage, StageWith
from tests.support.backends import Backend
from tests.support.waiting import eventually

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01")
UNSAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-00")


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """The exporter that gets all spans from here on."""
    spans = InMemorySpanExporter()
    tracing.install(tracer_to(SimpleSpanProcessor(spans)))
    yield spans
    tracing.install(None)


@pytest.fixture
async def stage(exporter: InMemorySpanExporter, stage_with: StageWith) -> Stage:
    running: Stage = await stage_with()
    return running


@pytest.fixture
async def on_valkey(
    exporter: InMemorySpanExporter, stage_with: StageWith, backends: Callable[[str], Backend]
) -> Stage:
    running: Stage = await stage_with(backends("valkey"))
    return running


def of_calls(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    spans = exporter.get_finished_spans()
    return [span for span in spans if span.kind is SpanKind.SERVER]


def of_store(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    spans = exporter.get_finished_spans()
    return [span for span in spans if span.kind is SpanKind.CLIENT]


def hexed(number: int, digits: int) -> str:
    return f"{number:0{digits}x}"


@pytest.mark.parametrize("method", ["ValidateSession", "ListDevices"])
async def test_a_call_has_a_span_in_the_trace_of_its_caller(
    stage: Stage, exporter: InMemorySpanExporter, method: str
):
    request: Any = pb.ListDevicesRequest(user_id="ada")
    if method == "ValidateSession":
        request = pb.ValidateSessionRequest()
    await stage.call(method, request, metadata=[SAMPLED, ("tracestate", "vendor=1")])
    [span] = of_calls(exporter)
    assert span.name == f"{SERVICE.full_name}/{method}"
    assert dict(span.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE.full_name}/{method}",
        "rpc.response.status_code": "OK",
    }
    assert span.parent is not None
    assert span.context is not None
    assert hexed(span.context.trace_id, 32) == TRACE
    assert hexed(span.parent.span_id, 16) == PARENT
    assert span.context.trace_state.get("vendor") == "1"
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("sent", [[], [("traceparent", "00-0-0-01")]])
async def test_a_call_with_no_valid_parent_begins_a_trace(
    stage: Stage, exporter: InMemorySpanExporter, sent: list[tuple[str, str]]
):
    await stage.call("GetSigningKeys", b"", metadata=sent)
    [span] = of_calls(exporter)
    assert span.parent is None


async def test_a_caller_that_samples_nothing_gets_no_spans(
    stage: Stage, exporter: InMemorySpanExporter, structured: LogStream
):
    await stage.call("GetSigningKeys", b"", metadata=[UNSAMPLED])
    assert of_calls(exporter) == []


async def test_only_faults_of_the_service_are_errors(stage: Stage, exporter: InMemorySpanExporter):
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable

    await stage.validate(await stage.sign_in("ada"), device_id="")
    await stage.refused("RevokeAll", pb.RevokeAllRequest())
    stage.authority.list_devices = away  # type: ignore[method-assign]
    await stage.refused("ListDevices", pb.ListDevicesRequest(user_id="ada"))
    names = ("rpc.response.status_code", "error.type")
    found = [
        (*(dict(span.attributes or {}).get(name) for name in names), span.status.status_code)
        for span in of_calls(exporter)
    ]
    assert found == [
        ("OK", None, StatusCode.UNSET),
        ("OK", None, StatusCode.UNSET),
        ("INVALID_ARGUMENT", None, StatusCode.UNSET),
        ("UNAVAILABLE", "UNAVAILABLE", StatusCode.ERROR),
    ]


async def test_a_stream_has_one_span(stage: Stage, exporter: InMemorySpanExporter):
    watch = stage.channel.unary_stream(f"/{SERVICE.full_name}/WatchEvents")(
        b"", timeout=20, metadata=[SAMPLED]
    )
    await watch.read()
    watch.cancel()
    await stage.server.stop(timedelta(seconds=5))
    [span] = of_calls(exporter)
    assert span.context is not None
    assert hexed(span.context.trace_id, 32) == TRACE
    assert dict(span.attributes or {})["rpc.response.status_code"] == "CANCELLED"


async def test_a_cancelled_call_is_no_error(stage: Stage, exporter: InMemorySpanExporter):
    begun, over = asyncio.Event(), asyncio.Event()

    async def hang(*_: Any, **__: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    stage.authority.kept_answer = hang  # type: ignore[method-assign]
    call = stage.start("ValidateSession", b"")
    await begun.wait()
    call.cancel()
    await over.wait()
    await stage.server.stop(timedelta(seconds=5))
    [span] = of_calls(exporter)
    assert dict(span.attributes or {})["rpc.response.status_code"] == "CANCELLED"
    assert span.status.status_code is StatusCode.UNSET


async def test_a_line_of_the_log_names_the_span(
    stage: Stage, exporter: InMemorySpanExporter, structured: LogStream
):
    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("ada")

    stage.authority.kept_answer = fail  # type: ignore[method-assign]
    answer = await stage.refused("ValidateSession", b"", metadata=[SAMPLED])
    assert answer.code is grpc.StatusCode.INTERNAL
    [line], [span] = structured.lines("internal_error"), of_calls(exporter)
    assert span.context is not None
    assert (line["trace_id"], line["span_id"]) == (TRACE, hexed(span.context.span_id, 16))
    assert span.events == ()


async def test_probes_have_no_span(stage: Stage, exporter: InMemorySpanExporter):
    await stage.call("/grpc.health.v1.Health/Check", b"", metadata=[SAMPLED])
    assert exporter.get_finished_spans() == ()


async def test_exchanges_with_the_store_are_spans_of_the_call(
    on_valkey: Stage, exporter: InMemorySpanExporter
):
    signed_in = await on_valkey.sign_in("ada", client=pb.ClientInfo(user_agent=LAPTOP_AGENT))
    [call] = of_calls(exporter)
    script = next(span for span in of_store(exporter) if "commit" in span.name)
    assert script.name in ("EVALSHA commit", "EVAL commit")
    assert dict(script.attributes or {})["db.system.name"] == "redis"
    assert script.parent == call.context
    exporter.clear()
    await on_valkey.validate(signed_in)
    [call] = of_calls(exporter)
    read = next(span for span in of_store(exporter) if "HGET" in span.name)
    assert read.parent == call.context
    told = str([(s.name, s.attributes, s.events, s.links) for s in exporter.get_finished_spans()])
    secret = ("ada", signed_in.access_token, signed_in.device.device_id, "Windows", "127.0.0.1")
    assert not [text for text in secret if text in told]


async def test_a_batch_of_several_calls_is_one_span_that_links_to_them(
    on_valkey: Stage, exporter: InMemorySpanExporter
):
    signed_in = [await on_valkey.sign_in(name) for name in ("ada", "bob")]
    exporter.clear()
    lines = on_valkey.store._reads
    real = lines._flush  # type: ignore[attr-defined]
    # No batch leaves until both calls have asked.
    lines._flush = lambda: None  # type: ignore[attr-defined]
    calls = [asyncio.ensure_future(on_valkey.validate(one)) for one in signed_in]
    waiting = lines._waiting  # type: ignore[attr-defined]
    await eventually(lambda: waiting and waiting[-1].size >= 2, "both to ask")
    lines._flush = real  # type: ignore[attr-defined]
    lines._flush()  # type: ignore[attr-defined]
    await asyncio.gather(*calls)
    asked = {span.context.span_id for span in of_calls(exporter) if span.context}
    batch = next(span for span in of_store(exporter) if span.name == "PIPELINE HGET")
    assert dict(batch.attributes or {})["db.operation.batch.size"] == 2
    assert batch.parent is not None
    assert {batch.parent.span_id, *(link.context.span_id for link in batch.links)} == asked


async def test_a_read_without_an_answer_is_an_error_of_its_span(exporter: InMemorySpanExporter):
    tracer = tracing.active()
    assert tracer is not None
    trace = tracer.call("/a.B/C", [SAMPLED])
    batch = TracedBatch(0.0)
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    trace.enter()
    batch.add(Question(("HGET", "sa:{1}:s:ada", "field")), answer)
    trace.leave()
    batch.packed()
    batch.fail(TimedOut("no reply from 10.0.0.1"))
    assert isinstance(answer.exception(), TimedOut)
    [span] = of_store(exporter)
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert dict(span.attributes or {}) == {
        "db.system.name": "redis",
        "db.operation.name": "HGET",
        "error.type": "TimeoutError",
    }
