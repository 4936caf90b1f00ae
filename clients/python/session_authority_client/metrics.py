"""Counts the calls of clients for Prometheus. This module needs the package's extra `metrics`.

    metrics = ClientMetrics()
    client = AsyncSessionAuthority(target, metrics=metrics)

In place of `ClientMetrics`, a client accepts any object with the methods of `Recorder`. No label of
a metric contains a user ID, a device ID or a token.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

import grpc
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from session_authority_client._shared.recording import Recorder
from session_authority_client.cache import NearCache

__all__ = ["ClientMetrics", "Recorder"]

_NAMESPACE = "session_authority_client"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


class ClientMetrics:
    """Counts the calls of any number of clients, with asyncio or with threads, and reads the counts
    of their near caches.

    `registry` is the Prometheus registry to which the metrics are added. Raises ValueError if the
    registry already has the metrics of another ClientMetrics.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._calls = Counter(
            "calls",
            "Calls that ended, by the code of their status. A batch is one call.",
            ["method", "code"],
            namespace=_NAMESPACE,
            registry=registry,
        )
        self._seconds = Histogram(
            "call_seconds",
            "Time of a call, its wait for its turn and its retries included.",
            ["method"],
            namespace=_NAMESPACE,
            registry=registry,
            buckets=_SECONDS,
        )
        self._retries = Counter(
            "retries",
            "Calls made again, as a server that stops had dropped them.",
            ["method"],
            namespace=_NAMESPACE,
            registry=registry,
        )
        self._batch_size = Histogram(
            "batch_size",
            "Validations that went together, in one call.",
            namespace=_NAMESPACE,
            registry=registry,
            buckets=_SIZES,
        )
        self._in_flight = Gauge(
            "in_flight",
            "Calls under way, or waiting for their turn.",
            namespace=_NAMESPACE,
            registry=registry,
        )
        self._caches = _Caches(registry)

    def begin(self, method: str) -> None:
        """Counts a call that begins. See `Recorder.begin`."""
        self._in_flight.inc()

    def end(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """Counts a call that has ended, and records its duration in seconds. See `Recorder.end`."""
        self._in_flight.dec()
        self._calls.labels(method, _NAMES[code]).inc()
        self._seconds.labels(method).observe(seconds)

    def retry(self, method: str) -> None:
        """Counts a retry of a call. See `Recorder.retry`."""
        self._retries.labels(method).inc()

    def batch(self, size: int) -> None:
        """Records the number of validations in a batch that is sent. See `Recorder.batch`."""
        self._batch_size.observe(size)

    def cache(self, cache: NearCache) -> None:
        """Adds a near cache, so that the metrics include the counts of this cache. See
        `Recorder.cache`.
        """
        self._caches.add(cache)


class _Caches(Collector):
    """Reads the counts that near caches keep, when Prometheus collects the metrics. So a hit in a
    near cache need not change a metric.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._caches: weakref.WeakSet[NearCache] = weakref.WeakSet()
        self._lock = threading.Lock()
        registry.register(self)

    def add(self, cache: NearCache) -> None:
        with self._lock:
            self._caches.add(cache)

    def describe(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            f"{_NAMESPACE}_cache_hits", "Validations answered from a near cache."
        )
        yield CounterMetricFamily(
            f"{_NAMESPACE}_cache_misses", "Validations that a near cache had no answer for."
        )
        yield CounterMetricFamily(
            f"{_NAMESPACE}_cache_dropped",
            "Answers that near caches dropped, by the reason.",
            labels=["reason"],
        )
        yield GaugeMetricFamily(
            f"{_NAMESPACE}_cache_staleness_seconds",
            "Age of the last proof of a near cache's watch. With several caches, the highest age."
            " Infinite while no watch is live.",
        )

    def collect(self) -> Iterator[Metric]:
        hits, misses, dropped, staleness = self.describe()
        assert isinstance(hits, CounterMetricFamily)
        assert isinstance(misses, CounterMetricFamily)
        assert isinstance(dropped, CounterMetricFamily)
        assert isinstance(staleness, GaugeMetricFamily)
        with self._lock:
            caches = list(self._caches)
        if caches:
            stats = [cache.stats() for cache in caches]
            hits.add_metric([], sum(each.hits for each in stats))
            misses.add_metric([], sum(each.misses for each in stats))
            for reason in stats[0].dropped:
                dropped.add_metric([reason], sum(each.dropped[reason] for each in stats))
            staleness.add_metric([], max(each.staleness for each in stats))
        yield from (hits, misses, dropped, staleness)


# The names of gRPC's status codes as Go spells them. The metrics of the service use the same names.
_NAMES = {
    code: "OK"
    if code is grpc.StatusCode.OK
    else code.name.title().replace("_", "").replace("Cancelled", "Canceled")
    for code in grpc.StatusCode
}
