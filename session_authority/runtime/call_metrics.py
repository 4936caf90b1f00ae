"""Counts gRPC calls under the metric names of go-grpc-middleware, which common dashboards know.
Also counts the calls of each caller.

When a call begins and ends, the thread of the event loop changes only a few plain numbers. The
metrics are computed from the counted numbers when Prometheus scrapes. This module does not use
gRPC: other modules pass the names of methods and the numbers of status codes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from session_authority.runtime.counters import Durations

# The names of gRPC's status codes as Go writes them. The position of each name is the number of the
# code.
CODES = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)
# The label value for three kinds of calls: calls of callers that the access policy does not name,
# calls that are refused before their caller is known, and all calls of methods that anyone may
# call, such as health checks.
UNKNOWN_CALLER = "unknown"
# The limit of callers that have their own time series, for each method. The names of callers come
# from the access policy, so only a policy with very many callers, or a policy that changes again
# and again, reaches this limit. Callers beyond this limit are counted as `other`.
MAX_CALLERS = 1000
_FURTHER_CALLERS = "other"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_NAMES = ("grpc_type", "grpc_service", "grpc_method")


class MethodName(NamedTuple):
    """The name of a method, as the labels of the metrics contain it. `kind` is `unary`,
    `server_stream` or `bidi_stream`.
    """

    kind: str
    service: str
    name: str


# The name under which all calls of unknown methods are counted, because clients can invent names of
# methods.
UNKNOWN_METHOD = MethodName("unary", "unknown", "unknown")


class MethodCalls:
    """Counts the calls of one method: how many calls have begun, how many calls of each caller
    ended with each status code, and how long the calls lasted.
    """

    __slots__ = ("by_caller", "durations", "started")

    def __init__(self) -> None:
        self.started = 0
        self.by_caller: dict[str | None, list[int]] = {None: [0] * len(CODES)}
        self.durations = Durations(_SECONDS)

    def end(self, caller: str | None, code: int, seconds: float) -> None:
        """Counts a call that has ended. `code` is the number of the status code. `caller` is None
        if the caller is unknown.
        """
        counts = self.by_caller.get(caller)
        if counts is None:
            counts = self._counts_of_new(caller)
        counts[code] += 1
        self.durations.add(seconds)

    def _counts_of_new(self, caller: str | None) -> list[int]:
        if len(self.by_caller) > MAX_CALLERS:
            caller = _FURTHER_CALLERS
        return self.by_caller.setdefault(caller, [0] * len(CODES))


class CallMetrics(Collector):
    """Counts the calls of all methods."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._methods: dict[MethodName, MethodCalls] = {}
        registry.register(self)

    def of(self, path: str, kind: str) -> MethodCalls:
        """Returns the counts of the method with this path, such as `/package.Service/Method`.
        `kind` is `unary`, `server_stream` or `bidi_stream`.
        """
        service, _, name = path.strip("/").rpartition("/")
        return self._of(MethodName(kind, service, name))

    def of_unknown_methods(self) -> MethodCalls:
        """Returns the counts for calls of methods that do not exist."""
        return self._of(UNKNOWN_METHOD)

    def _of(self, name: MethodName) -> MethodCalls:
        return self._methods.setdefault(name, MethodCalls())

    def describe(self) -> Iterator[Metric]:
        """Yields all metrics without values. The registry calls this method to learn the names of
        the metrics.
        """
        yield CounterMetricFamily(
            "grpc_server_started", "Calls that began, refused ones too.", labels=_NAMES
        )
        yield CounterMetricFamily(
            "grpc_server_handled",
            "Calls that ended, by the code of their status.",
            labels=[*_NAMES, "grpc_code"],
        )
        yield HistogramMetricFamily(
            "grpc_server_handling_seconds",
            "Time from a call's arrival to its answer; of a stream, to its end.",
            labels=_NAMES,
        )
        yield CounterMetricFamily(
            "session_authority_caller_calls",
            "Calls that ended, by the caller's name in the access policy; `unknown` for all that"
            " the policy does not name.",
            labels=["caller", "grpc_method", "grpc_code"],
        )

    def collect(self) -> Iterator[Metric]:
        """Yields all metrics with their values, when Prometheus scrapes."""
        started, handled, handling, by_caller = self.describe()
        assert isinstance(handling, HistogramMetricFamily)
        assert isinstance(started, CounterMetricFamily)
        assert isinstance(handled, CounterMetricFamily)
        assert isinstance(by_caller, CounterMetricFamily)
        callers: Counter[tuple[str, str, str]] = Counter()
        for method, calls in list(self._methods.items()):
            ended = [(name, counts.copy()) for name, counts in list(calls.by_caller.items())]
            for code, column in zip(CODES, zip(*(c for _, c in ended), strict=True), strict=True):
                handled.add_metric([*method, code], sum(column))
            for caller, counts in ended:
                for code, count in zip(CODES, counts, strict=True):
                    if count:
                        callers[caller or UNKNOWN_CALLER, method.name, code] += count
            handling.add_metric([*method], calls.durations.buckets(), calls.durations.seconds)
            # The number of calls that have begun is read last, so that it is never smaller than the
            # number of calls that have ended.
            started.add_metric([*method], calls.started)
        for labels, count in callers.items():
            by_caller.add_metric(labels, count)
        yield from (started, handled, handling, by_caller)
