"""Counts gRPC calls, by the names of go-grpc-middleware, which the field's dashboards know. It also
counts the calls of each caller, and the reasons for refusals.

The event loop's thread counts each call in two plain numbers and one histogram. The other metrics
are computed from these when Prometheus asks. This module does not know gRPC: methods and codes are
texts and numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from session_authority.runtime.counters import Durations

# As Go writes the codes, in the order of their numbers.
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
# The label for callers that the access policy does not name, and for calls that are refused before
# their caller is known.
UNKNOWN_CALLER = "unknown"
# Names of callers come from the policy. This bounds what a policy that changes for ever can cost.
MAX_CALLERS = 1000
_FURTHER_CALLERS = "other"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_NAMES = ("grpc_type", "grpc_service", "grpc_method")


class MethodName(NamedTuple):
    """A method, as its series name it: `unary`, `server_stream` or `bidi_stream`; its service; its
    name.
    """

    kind: str
    service: str
    name: str


# Clients can invent names of methods. All unknown methods count as this one.
UNKNOWN_METHOD = MethodName("unary", "unknown", "unknown")


class MethodCalls:
    """The calls of one method: how many have begun, how many of each caller ended with each code,
    and how long calls took.
    """

    __slots__ = ("by_caller", "durations", "started")

    def __init__(self) -> None:
        self.started = 0
        self.by_caller: dict[str | None, list[int]] = {None: [0] * len(CODES)}
        self.durations = Durations(_SECONDS)

    def end(self, caller: str | None, code: int, seconds: float) -> None:
        """Counts a call that is over, by the number of its code."""
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
    """The calls of all methods."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._methods: dict[MethodName, MethodCalls] = {}
        registry.register(self)

    def of(self, path: str, kind: str) -> MethodCalls:
        """The calls of the method of a path, such as `/package.Service/Method`."""
        service, _, name = path.strip("/").rpartition("/")
        return self._of(MethodName(kind, service, name))

    def of_unknown_methods(self) -> MethodCalls:
        """The calls of methods that do not exist."""
        return self._of(UNKNOWN_METHOD)

    def _of(self, name: MethodName) -> MethodCalls:
        return self._methods.setdefault(name, MethodCalls())

    def describe(self) -> Iterator[Metric]:
        """All metrics without numbers, from which the registry reads their names."""
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
        """All metrics, as Prometheus reads them."""
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
            # Read last: a call never ends before it begins.
            started.add_metric([*method], calls.started)
        for labels, count in callers.items():
            by_caller.add_metric(labels, count)
        yield from (started, handled, handling, by_caller)
