"""Counts and times the gateway's answers for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from session_authority.gateway.answers import Answer
from session_authority.gateway.requests import Kind

# The smallest buckets are for answers from the near cache. The largest buckets are for calls of the
# service that time out.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class GatewayMetrics:
    """The metrics of one gateway, with a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "session_authority_gateway_answers",
            "Answers to proxies, by the status for the client and by what sent the request.",
            ("status", "kind"),
            registry=self.registry,
        )
        # Finding a counter by its labels takes as long as counting. So the counters that were found
        # are cached here.
        self._counters: dict[tuple[int, Kind], Counter] = {}
        self._seconds = Histogram(
            "session_authority_gateway_seconds",
            "How long the gateway took for an answer.",
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def count(self, answer: Answer, seconds: float) -> None:
        """Counts an answer, and records how many seconds the gateway took for it."""
        key = (200 if answer.allowed else answer.denial_status, answer.kind)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._answers.labels(str(key[0]), key[1].value)
            self._counters[key] = counter
        counter.inc()
        self._seconds.observe(seconds)
