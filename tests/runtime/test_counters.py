"""The counters of the busiest paths are exported as the counters of prometheus_client are."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from session_authority.runtime.counters import CallCounter, DurationsByLabel
from session_authority.runtime.metrics import Metrics

BOUNDS = (0.0005, 0.01, 1.0)
SECONDS = (0.0, 0.0005, 0.00051, 0.01, 0.5, 1.0, 1.5, 70.0)


def shown(registry: CollectorRegistry) -> list[str]:
    """What Prometheus reads, without the time at which each number began."""
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def test_these_counters_are_exported_as_others_are():
    own, others = CollectorRegistry(), CollectorRegistry()
    calls = CallCounter(own, "calls", "All calls.", ["method", "code"])
    plain = CallCounter(own, "plain", "Without a label.")
    took = DurationsByLabel(own, "took", "How long.", ["method"], BOUNDS)
    same_calls = Counter("calls", "All calls.", ["method", "code"], registry=others)
    same_plain = Counter("plain", "Without a label.", registry=others)
    same_took = Histogram("took", "How long.", ["method"], registry=others, buckets=BOUNDS)
    for method, code, count in (("A", "OK", 3), ("A", "UNKNOWN", 0), ("B", "OK", 1)):
        calls.counts[calls.begin(method, code)] += count
        same_calls.labels(method, code).inc(count)
    plain.counts[plain.begin()] += 7
    same_plain.inc(7)
    for seconds in SECONDS:
        took.of("A").add(seconds)
        same_took.labels("A").observe(seconds)
    assert took.of("B").seconds == same_took.labels("B")._sum.get() == 0
    assert shown(own) == shown(others)


def test_a_counter_that_begins_again_keeps_its_value():
    counter = CallCounter(CollectorRegistry(), "calls", "All calls.", ["method"])
    counter.counts[counter.begin("A")] += 2
    assert counter.counts[counter.begin("A")] == 2


def test_a_scrape_can_name_one_counter():
    metrics = Metrics()
    metrics.calls.of("/a.B/C", "unary").end("ada", 0, 0.1)
    metrics.unreadable_records.labels("session").inc()
    names = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    assert {"grpc_server_handled_total", "grpc_server_handling_seconds_bucket"} <= names
    for name in names:
        if name.startswith(("python_", "process_")):
            continue  # The library's own counters, which it does not describe in advance.
        alone = list(metrics.registry.restricted_registry([name]).collect())
        assert {sample.name for family in alone for sample in family.samples} == {name}


@pytest.mark.parametrize("name", ["calls", "calls_total", "took", "took_bucket", "took_sum"])
def test_a_name_can_be_used_once(name: str):
    registry = CollectorRegistry()
    CallCounter(registry, "calls", "All calls.")
    DurationsByLabel(registry, "took", "How long.", ["method"], BOUNDS)
    with pytest.raises(ValueError, match="Duplicated"):
        Gauge(name, "Another one.", registry=registry)
