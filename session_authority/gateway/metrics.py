"""Owns what the gateway counts of itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from session_authority.gateway.answers import Answer

# From an answer out of the near cache to a time-out of the service.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class GatewayMetrics:
    """Counts answers. Each has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "session_authority_gateway_answers",
            "Answers to proxies, by the status for the client and by what sent the request.",
            ("status", "kind"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "session_authority_gateway_seconds",
            "How long the gateway took for an answer.",
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def count(self, answer: Answer, seconds: float) -> None:
        """Counts an answer that took so many seconds."""
        status = 200 if answer.allowed else answer.denial_status
        self._answers.labels(str(status), answer.kind.value).inc()
        self._seconds.observe(seconds)
