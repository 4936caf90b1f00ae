"""Counts things that happen with every call, in a form that Prometheus reads.

The counters of prometheus_client take a lock for each number, and a call changes five numbers. Here
one thread counts with plain numbers, and other threads may read them. A reader sees each number
whole. At worst, a reader sees a call in one number, and does not yet see the call in another
number. The rest of the service counts rarely, and uses the counters of prometheus_client.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class CallCounter(Collector):
    """Counts things by their labels. `counts` has a number for each combination of labels that
    `begin` has added. To count, add to the number.
    """

    def __init__(
        self, registry: CollectorRegistry, name: str, documentation: str, names: Sequence[str] = ()
    ) -> None:
        self.counts: dict[Labels, int] = {}
        """The number for each combination of labels. Other code may replace this dict by a dict in
        which it counts itself.
        """
        self._described = name, documentation
        self._names = names
        registry.register(self)

    def begin(self, *labels: str) -> Labels:
        """Adds a number for these labels. The metric shows this number even while it is 0. Returns
        the key of the number in `counts`.
        """
        self.counts.setdefault(labels, 0)
        return labels

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Returns the counter without numbers. The registry reads its name, because a scrape may
        request metrics by name.
        """
        yield CounterMetricFamily(*self._described, labels=self._names)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Returns the counter in the form that Prometheus reads."""
        [family] = self.describe()
        for labels, count in list(self.counts.items()):
            family.add_metric(labels, count)
        yield family


class Durations:
    """Counts durations in intervals between bounds, and adds them up in seconds. The last interval
    has no upper bound.
    """

    __slots__ = ("_bounds", "counts", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Returns how many durations were at most as long as each bound, in the form of a
        Prometheus histogram.
        """
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts.copy()), strict=True))


class DurationsByLabel(Collector):
    """Counts durations of several kinds, each with its own values of the labels, or durations of
    one kind without labels. With suitable bounds, this class also counts sizes and other values.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        documentation: str,
        names: Sequence[str],
        bounds: Sequence[float],
    ) -> None:
        self._described = name, documentation
        self._names = names
        self._bounds = bounds
        self._kinds: dict[Labels, Durations] = {}
        registry.register(self)

    def of(self, *labels: str) -> Durations:
        """Returns the durations of one kind."""
        return self._kinds.setdefault(labels, Durations(self._bounds))

    def show(self, durations: Durations, *labels: str) -> None:
        """Adds the durations of one kind to the metric. Other code counts these durations."""
        self._kinds[labels] = durations

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Returns the histogram without numbers. The registry reads its name, because a scrape may
        request metrics by name.
        """
        yield HistogramMetricFamily(*self._described, labels=self._names)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Returns the histogram in the form that Prometheus reads."""
        [family] = self.describe()
        for labels, kind in list(self._kinds.items()):
            family.add_metric(labels, kind.buckets(), kind.seconds)
        yield family
