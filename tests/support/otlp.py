"""A collector of traces: a gRPC server that speaks OTLP."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc


class Collector(collector_grpc.TraceServiceServicer):
    """Keeps the spans that it receives."""

    def __init__(self) -> None:
        self.url = ""
        self._lock = Lock()
        self._requests: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:
        with self._lock:
            self._requests.append(request)
        return collector.ExportTraceServiceResponse()

    def spans(self) -> list[Any]:
        """The spans, in the order of their arrival."""
        with self._lock:
            return [
                span
                for request in self._requests
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]

    def names(self) -> list[str]:
        """The names of the spans."""
        return [span.name for span in self.spans()]

    def services(self) -> set[str]:
        """The names of the services that sent spans."""
        with self._lock:
            return {
                attribute.value.string_value
                for request in self._requests
                for resource in request.resource_spans
                for attribute in resource.resource.attributes
                if attribute.key == "service.name"
            }


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own."""
    server = grpc.server(ThreadPoolExecutor(2))
    taken = Collector()
    collector_grpc.add_TraceServiceServicer_to_server(taken, server)
    taken.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield taken
    finally:
        server.stop(0).wait()
