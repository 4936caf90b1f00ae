"""Combines the metrics of all processes of the service.

Counters and histograms are summed. The counts of a process stay in the sum after the process has
ended: if the sum fell, Prometheus would conclude that the service has restarted. Gauges are not
summed, because the sum of a gauge rarely has a meaning. Each gauge gets a label with the name of
its process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

_ADDS_UP = ("counter", "histogram")

Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of one process, or the sum of this metric over several processes. `numbers` has
    the value of each time series of the metric.
    """

    name: str
    documentation: str
    type: str
    numbers: Mapping[Series, float]

    @property
    def adds_up(self) -> bool:
        """True if the sum of this metric over several processes has a meaning."""
        return self.type in _ADDS_UP


def pack(registry: CollectorRegistry) -> bytes:
    """Encodes the metrics of this process, so that another process can decode them with
    `unpack`.
    """
    return json.dumps(
        [
            [m.name, m.documentation, m.type, [[s.name, s.labels, s.value] for s in m.samples]]
            for m in registry.collect()
        ]
    ).encode()


def unpack(packed: bytes) -> list[Family]:
    """Decodes the metrics of another process. Raises ValueError if the bytes are not JSON."""
    found: list[Any] = json.loads(packed)
    return [
        Family(
            name,
            text,
            kind,
            {(sample, tuple(labels.items())): value for sample, labels, value in numbers},
        )
        for name, text, kind, numbers in found
    ]


def summed(families: Iterable[Family]) -> list[Family]:
    """Sums the counters and histograms of several processes, and leaves out the gauges. Metrics
    with the same name become one metric.
    """
    found: dict[str, Family] = {}
    sums: dict[str, dict[Series, float]] = {}
    for family in families:
        if family.adds_up:
            found.setdefault(family.name, family)
            numbers = sums.setdefault(family.name, {})
            for series, value in family.numbers.items():
                numbers[series] = numbers.get(series, 0.0) + value
    return [replace(family, numbers=sums[name]) for name, family in found.items()]


def together(
    cumulative: Iterable[Family], present: Mapping[str, Iterable[Family]]
) -> Iterator[Metric]:
    """Yields the metrics of all processes: the sums of the counters and histograms, and the gauges
    of each process.

    Args:
        cumulative: The last known metrics of each process, including processes that have ended.
            Gauges in `cumulative` are ignored.
        present: The present metrics of each running process, by the name of the process. The gauges
            of a process get the name of the process as the label `worker`.
    """
    for family in summed(cumulative):
        metric = _empty(family)
        for (sample, labels), value in family.numbers.items():
            metric.add_sample(sample, dict(labels), value)
        yield metric
    gauges: dict[str, Metric] = {}
    for worker, families in present.items():
        for family in families:
            if not family.adds_up:
                metric = gauges.setdefault(family.name, _empty(family))
                for (sample, labels), value in family.numbers.items():
                    metric.add_sample(sample, {**dict(labels), "worker": worker}, value)
    yield from gauges.values()


def _empty(family: Family) -> Metric:
    return Metric(family.name, family.documentation, family.type)
