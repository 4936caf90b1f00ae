"""Makes a span for each attempt at a call of a client, with OpenTelemetry's API. The app must turn
tracing on in the client. A watch has no span.

Until the app sets OpenTelemetry up, OpenTelemetry's API does nothing. A span contains no personal
data: no user, device or token, and no address of an end user. OpenTelemetry's API is imported only
if an app makes a client with tracing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from session_authority_client._shared.transport import path_of

Metadata = tuple[tuple[str, str], ...]


class Tracer:
    """Begins the spans of one client's calls to a target. Raises ValueError if OpenTelemetry's API
    is not installed.
    """

    def __init__(self, target: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise ValueError(
                "tracing: needs OpenTelemetry: install session-authority-client[tracing]"
            ) from None
        self._trace = trace
        self._tracer = trace.get_tracer("session-authority-client")
        self._propagator = TraceContextTextMapPropagator()
        self._server = _server(target)

    def asking(self) -> Any:
        """Returns the context of the caller's current span, or None if this span is not
        recorded.
        """
        span = self._trace.get_current_span()
        return span.get_span_context() if span.is_recording() else None

    def begin(self, method: str, askers: Sequence[Any] | None = None) -> CallSpan:
        """Begins the span of one attempt at a call. If `askers` is None, the new span is a child of
        the current span.

        For a batch, `askers` are the contexts of the spans of the batch's callers. The new span of
        a batch is a child of the first caller's span, and has links to the spans of all further
        callers. If `askers` is empty, the new span has no parent.
        """
        trace = self._trace
        name = path_of(method).removeprefix("/")
        parent, links = None, []
        if askers is not None:
            first, *others = askers or [None]
            parent = trace.set_span_in_context(
                trace.INVALID_SPAN if first is None else trace.NonRecordingSpan(first)
            )
            links = [trace.Link(other) for other in others]
        span = self._tracer.start_span(
            name,
            parent,
            trace.SpanKind.CLIENT,
            {"rpc.system.name": "grpc", "rpc.method": name, **self._server},
            links,
        )
        headers: dict[str, str] = {}
        self._propagator.inject(headers, trace.set_span_in_context(span))
        return CallSpan(span, tuple(headers.items()), trace.StatusCode.ERROR)


class CallSpan:
    """The span of one attempt at a call. `headers` pass the span's context to the service."""

    __slots__ = ("_error", "_span", "headers")

    def __init__(self, span: Any, headers: Metadata, error: Any) -> None:
        self._span = span
        self._error = error
        self.headers = headers

    def end(self, error: BaseException | None = None) -> None:
        """Ends the span. In the span of a client, every status code except OK counts as an
        error.
        """
        code = "OK" if error is None else _code_of(error)
        self._span.set_attribute("rpc.response.status_code", code)
        if error is not None:
            self._span.set_attribute("error.type", code)
            self._span.set_status(self._error)
        self._span.end()


def _code_of(error: BaseException) -> str:
    code = error.code() if isinstance(error, grpc.RpcError) and hasattr(error, "code") else None
    return code.name if isinstance(code, grpc.StatusCode) else "CANCELLED"


def _server(target: str) -> dict[str, str | int]:
    """Returns the attributes of a span that name the server: the server's address, and its port if
    the target contains a port.
    """
    place = target.rpartition("/")[2]
    host, _, port = place.rpartition(":")
    if not port.isdecimal():
        return {"server.address": place}
    return {"server.address": host.strip("[]"), "server.port": int(port)}
