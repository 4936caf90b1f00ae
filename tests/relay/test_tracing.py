"""An attempt to deliver an event has a span, and the endpoint learns of its trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from session_authority.relay import Delivered, Refused
from session_authority.runtime import tracing
from session_authority.runtime.otel import tracer_to
from tests.relay.senders import BODY, NAME, NOW, calling, endpoint_at, outcome_of, send_to
from tests.relay.servers import status


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    spans = InMemorySpanExporter()
    tracing.install(tracer_to(SimpleSpanProcessor(spans)))
    yield spans
    tracing.install(None)


async def test_an_endpoint_learns_of_the_trace(exporter: InMemorySpanExporter):
    async with calling(status("204 No Content")) as (sender, server):
        assert await sender.send("e1", BODY, NOW) == Delivered()
        [request] = server.requests
    [span] = exporter.get_finished_spans()
    assert span.context is not None
    ids = f"{span.context.trace_id:032x}-{span.context.span_id:016x}"
    assert request.headers["traceparent"].startswith(f"00-{ids}-")
    assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "server.address": NAME,
        "server.port": server.port,
        "session_authority.endpoint": "a",
        "http.response.status_code": 204,
    }


async def test_a_failed_delivery_is_an_error_of_its_span(exporter: InMemorySpanExporter):
    assert await outcome_of(status("503 Later")) == Refused("status 503")
    assert await send_to(endpoint_at("http://127.0.0.1:1/")) == Refused("connection failed")
    refused, away = exporter.get_finished_spans()
    assert dict(refused.attributes or {})["http.response.status_code"] == 503
    assert "http.response.status_code" not in dict(away.attributes or {})
    for span in (refused, away):
        assert (span.status.status_code, span.events) == (StatusCode.ERROR, ())


async def test_no_trace_header_is_sent_while_tracing_is_off():
    async with calling(status("204 No Content")) as (sender, server):
        await sender.send("e1", BODY, NOW)
        [request] = server.requests
    assert "traceparent" not in request.headers
