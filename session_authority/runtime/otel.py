"""Makes spans with OpenTelemetry, according to its semantic conventions 1.38 and later.

No span contains facts about a person: no user, device or token, and no address of an end user. A
separate thread exports the spans, so no call waits for an export. If the queue of the thread that
exports spans is full, the oldest spans are dropped. Only this module of the service uses
OpenTelemetry, and the module is imported only if tracing is on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic, time_ns
from typing import Any

import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.environment_variables import OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from session_authority import __version__
from session_authority.runtime.logs import LogThrottle
from session_authority.runtime.tracing import TracingError

SERVICE_NAME = "session-authority"
_PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "grpc"
# The names of the samplers are those in OpenTelemetry's specification of environment variables.
_SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
# The status codes that count as errors of the server. All other codes except OK count as errors of
# the caller (OpenTelemetry's semantic conventions for gRPC).
SERVER_ERRORS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
# The time limit for the export of the last spans when the process ends.
_SHUTDOWN_SECONDS = 2.0
_COMPLAINT_SECONDS = 60.0
_PROPAGATED = frozenset({"traceparent", "tracestate"})

_log = structlog.get_logger(__name__)
_propagator = TraceContextTextMapPropagator()


class Tracer:
    """Makes the spans of this process."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE_NAME, __version__)

    def call(self, path: str, metadata: Iterable[tuple[str, str | bytes]]) -> CallTrace:
        """Returns the trace of a call that has just arrived. `enter` or `end` of the trace makes
        the span later. The start time of the span is the time when the call arrived.
        """
        return CallTrace(self._tracer, path, metadata)

    @contextmanager
    def store_round_trip(self, operation: str, script: str) -> Iterator[None]:
        """Makes a span around one exchange with Redis. Makes no span if the current span is not
        recorded.
        """
        if not trace.get_current_span().is_recording():
            yield
            return
        attributes = {"db.system.name": "redis", "db.operation.name": operation}
        attributes["db.stored_procedure.name"] = script
        with self._tracer.start_as_current_span(
            f"{operation} {script}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,  # The exception may quote keys of Redis.
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except Exception as error:
                _fail(span, type(error).__name__)
                raise

    def batch(
        self,
        askers: Sequence[SpanContext],
        operations: Sequence[str],
        begun_at_ns: int,
        error: str | None,
    ) -> None:
        """Makes a span for an exchange with Redis that ends now. The new span is a child of the
        first span in `askers`, and has links to the other spans in `askers`.

        Args:
            askers: The spans of the calls whose questions the exchange answers, at least one.
            operations: The names of the commands in the exchange.
            begun_at_ns: The time when the exchange began, in nanoseconds since 1970.
            error: The type of the error if a command failed, or None.
        """
        first, *others = askers
        names = set(operations)
        name = operations[0] if len(names) == 1 else ""
        attributes: dict[str, str | int] = {"db.system.name": "redis"}
        attributes["db.operation.name"] = name or "PIPELINE"
        if len(operations) > 1:
            attributes["db.operation.batch.size"] = len(operations)
            attributes["db.operation.name"] = name = f"PIPELINE {name}".strip()
        parent = trace.set_span_in_context(trace.NonRecordingSpan(first))
        span = self._tracer.start_span(
            name,
            parent,
            SpanKind.CLIENT,
            attributes,
            [Link(other) for other in others],
            start_time=begun_at_ns,
        )
        if error is not None:
            _fail(span, error)
        span.end()

    @contextmanager
    def delivery(self, endpoint: str, host: str, port: int) -> Iterator[DeliveryTrace]:
        """Makes a span around one attempt to deliver an event to an endpoint."""
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "server.address": host,
            "server.port": port,
            "session_authority.endpoint": endpoint,
        }
        with self._tracer.start_as_current_span(
            "POST",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield DeliveryTrace(span)

    def shut_down(self) -> None:
        """Exports the last spans. Waits at most two seconds for the export."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(_SHUTDOWN_SECONDS)


def note_http_status(status: int) -> None:
    """Adds the HTTP status of the endpoint's response to the current span, which is the span of a
    delivery.
    """
    trace.get_current_span().set_attribute("http.response.status_code", status)


def asking() -> SpanContext | None:
    """Returns the context of the current span, or None if the current span is not recorded."""
    span = trace.get_current_span()
    return span.get_span_context() if span.is_recording() else None


class CallTrace:
    """The trace of one call. A call of an unknown caller gets no span, because the spans of such
    calls could displace other spans in the queue for the export.
    """

    __slots__ = ("_begun_at_ns", "_metadata", "_path", "_span", "_token", "_tracer")

    def __init__(
        self, tracer: trace.Tracer, path: str, metadata: Iterable[tuple[str, str | bytes]]
    ) -> None:
        self._tracer = tracer
        self._path = path
        self._metadata = metadata
        self._begun_at_ns = time_ns()
        self._span: Span | None = None
        self._token: Any = None

    def enter(self) -> Mapping[str, str]:
        """Makes the span of the call, and makes it the current span until `leave` is called.
        Returns the IDs of the trace and of the span for the log. Returns an empty mapping if the
        variables OTEL_* switch tracing off.
        """
        self._span = span = self._begin()
        self._token = otel_context.attach(trace.set_span_in_context(span))
        own = span.get_span_context()
        if not own.is_valid:  # The variables OTEL_* switch tracing off.
            return {}
        return {
            "trace_id": trace.format_trace_id(own.trace_id),
            "span_id": trace.format_span_id(own.span_id),
        }

    def leave(self) -> None:
        """Restores the span that was current before `enter`. The span of the call goes on until
        `end` is called.
        """
        otel_context.detach(self._token)

    def end(self, code: str, *, known: bool) -> None:
        """Adds the status code to the span of the call, and ends the span. A call that was refused
        before `enter` has no span yet, so `end` makes the span, unless the caller is unknown.
        """
        if self._span is None:
            if not known:
                return
            self._span = self._begin()
        self._span.set_attribute("rpc.response.status_code", code)
        if code in SERVER_ERRORS:
            _fail(self._span, code)
        self._span.end()

    def _begin(self) -> Span:
        name = self._path.removeprefix("/")
        return self._tracer.start_span(
            name,
            _propagator.extract(_carrier(self._metadata)),
            SpanKind.SERVER,
            {"rpc.system.name": "grpc", "rpc.method": name},
            start_time=self._begun_at_ns,
        )


class DeliveryTrace:
    """The span of one attempt to deliver an event."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def headers(self) -> dict[str, str]:
        """Returns the HTTP headers that pass the trace on to the endpoint."""
        headers: dict[str, str] = {}
        _propagator.inject(headers)
        return headers

    def failed(self, reason: str) -> None:
        """Marks the span as failed. `reason` says why the event was not delivered."""
        _fail(self._span, reason)


def exporting() -> Tracer:
    """Makes a tracer whose spans are exported by OTLP over gRPC. The variables OTEL_* configure the
    export. Raises TracingError if a variable OTEL_* is wrong.
    """
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    # If both variables in _PROTOCOL_VARIABLES are set, only the first one counts, because it is for
    # traces alone.
    named = next((name for name in _PROTOCOL_VARIABLES if os.environ.get(name)), None)
    if named is not None and os.environ[named] != _PROTOCOL:
        raise TracingError(f"{named}: must be {_PROTOCOL}, the only supported protocol")
    _check_sampler()
    try:
        return tracer_to(BatchSpanProcessor(_Watched(OTLPSpanExporter())))
    except ValueError as error:
        raise TracingError(f"the variables OTEL_* can't be used: {error}") from None


def _check_sampler() -> None:
    """Checks the variables OTEL_* that choose which traces are recorded. Raises TracingError if one
    of the variables has a wrong value. OpenTelemetry itself would only log a warning about a wrong
    value, and would record every trace that begins in this process.
    """
    sampler = os.environ.get(OTEL_TRACES_SAMPLER, "").lower()
    if not sampler:
        return
    if sampler not in _SAMPLERS:
        raise TracingError(f"{OTEL_TRACES_SAMPLER}: must be one of {', '.join(_SAMPLERS)}")
    argument = os.environ.get(OTEL_TRACES_SAMPLER_ARG) or "1.0"
    if "ratio" in sampler and not _is_ratio(argument):
        raise TracingError(f"{OTEL_TRACES_SAMPLER_ARG}: must be a number from 0 to 1")


def _is_ratio(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def tracer_to(processor: Any) -> Tracer:
    """Makes a tracer that sends its spans to a span processor of OpenTelemetry."""
    attributes = {"service.version": __version__}
    if "service.name" not in OTELResourceDetector().detect().attributes:
        attributes["service.name"] = SERVICE_NAME
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return Tracer(provider)


class _Watched(SpanExporter):
    """Wraps an exporter, and counts the spans whose export failed. Reports in the log how many
    spans were not exported, at most once a minute. Spans that were dropped because the export queue
    was full are not counted.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._throttle = LogThrottle(_COMPLAINT_SECONDS)
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports spans. OpenTelemetry calls this method in the thread that exports spans."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.FAILURE:
                self._complain(len(spans))
        return result

    def shutdown(self) -> None:
        """Shuts down the wrapped exporter."""
        self._exporter.shutdown()

    def _complain(self, count: int) -> None:
        self._lost += count
        if self._throttle.count("lost", monotonic()) is not None:
            _log.warning("traces_not_exported", spans=self._lost)
            self._lost = 0


def _carrier(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Returns the headers `traceparent` and `tracestate` from the metadata of a call."""
    return {
        name: value for name, value in metadata if name in _PROPAGATED and isinstance(value, str)
    }


def _fail(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(StatusCode.ERROR)
