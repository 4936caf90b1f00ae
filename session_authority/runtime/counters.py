"""Counts events that happen in every call, for metrics of Prometheus.

The counters of prometheus_client take a lock for each change of a number, and a call changes five
numbers. So the counters of this module are plain numbers without locks. Only one thread changes the
numbers of a counter, and other threads may read the numbers. A reader never gets a partly written
number. At worst, a reader sees a call in one number before the call is counted in another number.
For events that happen rarely, the service uses the counters of prometheus_client.
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
    """A counter that has a number for each combination of label values. `begin` adds a combination
    of label values. To count an event, add 1 to the number of a combination in `counts`.
    """

    def __init__(
        self, registry: CollectorRegistry, name: str, documentation: str, names: Sequence[str] = ()
    ) -> None:
        self.counts: dict[Labels, int] = {}
        """The number for each combination of label values. Code that already counts in a dict of
        its own may replace `counts` by this dict.
        """
        self._described = name, documentation
        self._names = names
        registry.register(self)

    def begin(self, *labels: str) -> Labels:
        """Adds a combination of label values, so that the metric shows the combination even while
        its number is 0. Returns the key of the combination in `counts`.
        """
        self.counts.setdefault(labels, 0)
        return labels

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Yields the counter without numbers. The registry needs the name of the counter, because a
        scrape may request metrics by name.
        """
        yield CounterMetricFamily(*self._described, labels=self._names)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yields the counter with its numbers, when Prometheus scrapes."""
        [family] = self.describe()
        for labels, count in list(self.counts.items()):
            family.add_metric(labels, count)
        yield family


class Durations:
    """A histogram of durations. `counts` has the number of durations in each interval between two
    bounds, and in the last interval, which has no upper bound. `seconds` is the sum of all
    durations.
    """

    __slots__ = ("_bounds", "counts", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration, which is in seconds."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Returns, for each bound, how many durations were at most as long as the bound. The result
        has the form of a Prometheus histogram: the bounds are texts, and the last bound is `+Inf`.
        """
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts.copy()), strict=True))


class DurationsByLabel(Collector):
    """A metric that has a histogram of durations for each combination of label values, or one
    histogram without labels. With suitable bounds, the histograms can also count sizes or other
    values.
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
        """Returns the histogram for these label values. Makes the histogram if there is none
        yet.
        """
        return self._kinds.setdefault(labels, Durations(self._bounds))

    def show(self, durations: Durations, *labels: str) -> None:
        """Adds a histogram to the metric, under these label values. The code that made the
        histogram counts its durations.
        """
        self._kinds[labels] = durations

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Yields the histogram without numbers. The registry needs the name of the histogram,
        because a scrape may request metrics by name.
        """
        yield HistogramMetricFamily(*self._described, labels=self._names)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yields the histogram with its numbers, when Prometheus scrapes."""
        [family] = self.describe()
        for labels, kind in list(self._kinds.items()):
            family.add_metric(labels, kind.buckets(), kind.seconds)
        yield family
