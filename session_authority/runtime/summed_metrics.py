"""Combines the metrics of the processes of one service.

Counters and histograms are summed. After a process has ended, its counts stay in the sum, because a
falling sum would look like a restart. Gauges belong to one process, and their sum rarely has a
meaning. So each gauge gets an additional label with its process.
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
    """One metric of one process: its name, its documentation, its type, and its numbers."""

    name: str
    documentation: str
    type: str
    numbers: Mapping[Series, float]

    @property
    def adds_up(self) -> bool:
        """True if the sum of this metric over several processes has a meaning."""
        return self.type in _ADDS_UP


def pack(registry: CollectorRegistry) -> bytes:
    """Packs the metrics of this process, for another process to unpack."""
    return json.dumps(
        [
            [m.name, m.documentation, m.type, [[s.name, s.labels, s.value] for s in m.samples]]
            for m in registry.collect()
        ]
    ).encode()


def unpack(packed: bytes) -> list[Family]:
    """Unpacks the metrics of another process. Raises ValueError if the bytes are not JSON."""
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
    """Sums the counters and histograms of several processes. Metrics with the same name become one
    metric.
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
    """Combines the metrics of all processes.

    Args:
        cumulative: The last known counts of each process.
        present: The present metrics of each process, by the name of the process. The gauges get
            this name as the label `worker`.
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
