"""Defines the metrics that the service and the relay share: metrics of the process itself, of its
event loop, and of its exchanges with Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from time import monotonic
from typing import NoReturn

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from session_authority import __version__
from session_authority.runtime.counters import CallCounter, DurationsByLabel

# Without this call, each counter would have a second time series with the time of its creation,
# which Prometheus does not need.
disable_created_metrics()  # type: ignore[no-untyped-call]

_NAMESPACE = "session_authority"
_LAG_INTERVAL_SECONDS = 0.25
_LAG_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class ProcessMetrics:
    """Owns the metrics that each process has, and their registry. Also makes the metrics that a
    subclass adds.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._build = self.gauge(
            "build_info",
            "1, with the versions of what runs, and how calls are accepted.",
            ["version", "python", "grpcio", "acceptor"],
        )
        self._loop_lag = self.durations(
            "event_loop_lag_seconds",
            "How much later than it should the event loop came round, four times a second.",
            _LAG_SECONDS,
        ).of()
        self.redis_round_trips = self.durations(
            "redis_round_trip_seconds",
            "Time of an exchange with Redis: of a batch of reads (line `read`), or of a write or a"
            " script (line `command`).",
            labels=["line"],
        )
        self.redis_batch_size = self.durations(
            "redis_batch_size", "Reads that travelled to Redis together."
        )
        self.redis_errors = self.counter(
            "redis_errors",
            "Exchanges with Redis that failed, for each caller that waited, by what went wrong.",
            ["kind"],
        )
        self.redis_waiting = self.gauge(
            "redis_waiting", "Exchanges that wait for a connection to Redis."
        )

    def gauge(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
        """Makes a gauge. `name` is the name of the gauge without the prefix
        `session_authority_`.
        """
        return Gauge(name, documentation, labels, namespace=_NAMESPACE, registry=self.registry)

    def rare(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        """Makes a counter that any thread may change. A counter from `rare` costs more CPU time
        than a counter from the method `counter`. So `rare` is for events that do not happen in
        every call.
        """
        return Counter(name, documentation, labels, namespace=_NAMESPACE, registry=self.registry)

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> CallCounter:
        """Makes a counter for events that happen often. Only the thread of the event loop may
        change the counter.
        """
        return CallCounter(self.registry, f"{_NAMESPACE}_{name}", documentation, labels)

    def durations(
        self,
        name: str,
        documentation: str,
        bounds: Sequence[float] = (),
        labels: Sequence[str] = (),
    ) -> DurationsByLabel:
        """Makes a histogram. Only the thread of the event loop may add durations to the histogram.
        `bounds` may be empty if other code makes the numbers of the histogram (see
        `DurationsByLabel.show`).
        """
        full_name = f"{_NAMESPACE}_{name}"
        return DurationsByLabel(self.registry, full_name, documentation, labels, bounds)

    def name_build(self, acceptor: str) -> None:
        """Sets the metric `build_info`, which shows the versions of the running software.
        `acceptor` is empty in a process that accepts no gRPC calls.
        """
        self._build.labels(__version__, python_version(), _version_of("grpcio"), acceptor).set(1)

    async def watch_loop(self) -> NoReturn:
        """Measures four times a second how late the event loop runs a timer. Runs until the task is
        cancelled.
        """
        while True:
            due = monotonic() + _LAG_INTERVAL_SECONDS
            await asyncio.sleep(_LAG_INTERVAL_SECONDS)
            self._loop_lag.add(max(monotonic() - due, 0.0))


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
