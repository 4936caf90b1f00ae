"""Tracing: a client makes spans for its calls and sends their context to the service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from client_tests.harness import Connect, Fake, until
from session_authority.v1 import session_authority_pb2 as pb
from session_authority_client import InvalidRequest
from session_authority_client._shared import batching

LONG = timedelta(seconds=30)
SERVICE = "session_authority.v1.SessionAuthorityService"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    """The tracer provider that an app sets up."""
    made = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "get_tracer", made.get_tracer)
    return made


@pytest.fixture
def exporter(provider: TracerProvider) -> InMemorySpanExporter:
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return spans


@pytest.fixture
async def client(
    connect: Connect, fake: Fake, exporter: InMemorySpanExporter
) -> AsyncIterator[Any]:
    async with connect(fake.address, timeout=LONG, tracing=True) as made:
        yield made


def of_calls(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]


def traceparent(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"


async def test_a_call_has_a_span_whose_context_the_service_receives(
    client: Any, fake: Fake, provider: TracerProvider, exporter: InMemorySpanExporter
):
    with provider.get_tracer("app").start_as_current_span("request") as request:
        await client.list_devices("ada")
    [span] = of_calls(exporter)
    assert span.name == f"{SERVICE}/ListDevices"
    assert span.parent == request.get_span_context()
    host, port = fake.address.split(":")
    assert dict(span.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/ListDevices",
        "rpc.response.status_code": "OK",
        "server.address": host,
        "server.port": int(port),
    }
    sent = dict(fake.calls[0].metadata)
    assert str(sent["traceparent"]).startswith(traceparent(span))


async def test_the_span_of_a_failed_call_is_an_error(
    client: Any, fake: Fake, exporter: InMemorySpanExporter
):
    def refuse(_: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "ada is no user")

    fake.always = refuse
    with pytest.raises(InvalidRequest):
        await client.list_devices("ada")
    [span] = of_calls(exporter)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert dict(span.attributes or {})["error.type"] == "INVALID_ARGUMENT"
    assert span.events == ()


async def test_the_span_of_a_batch_belongs_to_all_its_callers(
    client: Any,
    fake: Fake,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(batching, "MAX_WAIT_SECONDS", 3600)
    monkeypatch.setattr(batching, "MAX_WAIT_SHARE", 1)
    entered, go = threading.Event(), threading.Event()

    def hold(_: Any, __: grpc.ServicerContext) -> Any:
        entered.set()
        go.wait(30)
        return pb.ValidateSessionResponse()

    def both(request: Any, _: grpc.ServicerContext) -> Any:
        results = [
            pb.BatchValidateSessionsResult(response=pb.ValidateSessionResponse())
            for _ in request.requests
        ]
        return pb.BatchValidateSessionsResponse(results=results)

    fake.acts.extend([hold, both])
    tracer = provider.get_tracer("app")

    async def ask(name: str) -> int:
        with tracer.start_as_current_span(name) as request:
            await client.validate_session("token", "device")
            return request.get_span_context().span_id

    first = asyncio.create_task(ask("first"))
    await until(entered.is_set)
    others = [asyncio.create_task(ask(f"other {number}")) for number in range(3)]
    await until(lambda: len(queue_of(client)) == 3)
    go.set()
    await first
    asked = set(await asyncio.gather(*others))
    [batch] = [span for span in of_calls(exporter) if span.name.endswith("/BatchValidateSessions")]
    assert batch.parent is not None
    assert {batch.parent.span_id, *(link.context.span_id for link in batch.links)} == asked
    assert str(dict(fake.calls[1].metadata)["traceparent"]).startswith(traceparent(batch))


def queue_of(client: Any) -> list[Any]:
    queue: list[Any] = getattr(client, "client", client)._batch_queue._queue
    return queue


async def test_without_tracing_no_span_is_made_or_sent(
    connect: Connect, fake: Fake, provider: TracerProvider, exporter: InMemorySpanExporter
):
    async with connect(fake.address, timeout=LONG) as client:
        with provider.get_tracer("app").start_as_current_span("request"):
            await client.list_devices("ada")
    assert "traceparent" not in dict(fake.calls[0].metadata)
    assert of_calls(exporter) == []
