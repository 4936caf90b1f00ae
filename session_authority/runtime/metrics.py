"""What the service counts, in Prometheus' terms. Label values come from fixed sets; no user, device
or token is one.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from session_authority.domain.refusals import REASONS
from session_authority.domain.verdicts import ReplayCause, SessionStatus
from session_authority.runtime.call_metrics import CallMetrics
from session_authority.runtime.counters import CallCounter
from session_authority.runtime.metrics_server import serve_metrics

_NAMESPACE = "session_authority"
_ACTIVE = (SessionStatus.ACTIVE.value,)


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._verdicts = CallCounter(
            self.registry,
            f"{_NAMESPACE}_verdicts",
            "Tokens judged, by what they were worth.",
            ["status"],
        )
        self._by_status = {status: self._verdicts.begin(status.value) for status in SessionStatus}
        self._kept_answers = CallCounter(
            self.registry,
            f"{_NAMESPACE}_kept_answers",
            "Validations answered with a kept answer, after Redis showed that the session's record"
            " is the same.",
        )
        self._kept_answers.begin()
        replays = Counter(
            "replays",
            "Replays acted upon, by cause.",
            ["cause"],
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self._replays = {cause: replays.labels(cause.value) for cause in ReplayCause}
        self.forwards = Counter(
            "records_forwarded",
            "Session records that a token moved forward, because the store had lost writes.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.conflicts = Counter(
            "commit_conflicts",
            "Commits that found something changed, and were decided again.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.unreadable_records = Counter(
            "unreadable_records",
            "Reads of a record in Redis that could not be read, by its kind: session, device,"
            " request. See `session-authority inspect`.",
            ["kind"],
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.best_effort_writes_dropped = Counter(
            "best_effort_writes_dropped",
            "Marks and touches not written, because too many were waiting or the store was away."
            " Harmless.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.store_up = Gauge(
            "store_up",
            "1 if Redis answered the last probe and its clock agrees.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.standing_acceptor = Gauge(
            "standing_acceptor",
            "1 if standing tasks accept the calls of the busiest methods, 0 if grpc.aio's own loop"
            " accepts all.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.files_broken = Gauge(
            "files_broken",
            "1 while changed files of this kind (keys, access, certificates, geoip_database) can't"
            " be used, and the old ones still are.",
            ["what"],
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.certificate_end = Gauge(
            "certificate_end_seconds",
            "When the service's TLS certificate ends, in seconds since 1970; 0 without one.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.geoip_built = Gauge(
            "geoip_database_built_seconds",
            "When the database of places was made, in seconds since 1970; 0 without one.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.watchers = Gauge(
            "watchers", "Watches of events under way.", namespace=_NAMESPACE, registry=self.registry
        )
        self.watches_expired = Counter(
            "watches_expired",
            "Watches ended because something may have been missed: too slow, or the store's history"
            " changed.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.deliveries = Counter(
            "deliveries",
            "Attempts to deliver an event to an endpoint: delivered, failed; and events that were"
            " given_up.",
            ["endpoint", "outcome"],
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.calls = CallMetrics(self.registry)
        self._refused = CallCounter(
            self.registry,
            f"{_NAMESPACE}_calls_refused",
            "Calls refused before they were carried out, by the reason.",
            ["reason"],
        )
        self._by_refusal = {reason: self._refused.begin(reason) for reason in REASONS}
        self.calls_in_flight = Gauge(
            "calls_in_flight",
            "Places that unary calls under way take; a batch takes one for each 4 KiB.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.calls_in_flight_limit = Gauge(
            "calls_in_flight_limit",
            "Places that there are for unary calls under way.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )

    def verdict(self, status: SessionStatus) -> None:
        """Counts a judged token."""
        self._verdicts.counts[self._by_status[status]] += 1

    def kept(self, number: int) -> None:
        """Counts tokens that a kept answer found to be active."""
        self._verdicts.counts[_ACTIVE] += number
        self._kept_answers.counts[()] += number

    def replay(self, cause: ReplayCause) -> None:
        """Counts a replay that was acted upon."""
        self._replays[cause].inc()

    def refused(self, reason: str | None) -> None:
        """Counts a call that was refused, by one of REASONS; nothing for None."""
        if reason is not None:
            self._refused.counts[self._by_refusal[reason]] += 1

    def serve(self, host: str, port: int) -> None:
        """Offers them over HTTP, from a thread of its own."""
        serve_metrics(self.registry, host, port)
