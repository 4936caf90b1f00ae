"""The metrics of several processes are those of one service, whatever happens to a process."""

from __future__ import annotations

import socket
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from session_authority.processes import worker_metrics
from session_authority.processes.worker_metrics import GatheredMetrics, answer_parent
from session_authority.runtime.logs import LogThrottle
from tests.support.waiting import wait_for

pytestmark = pytest.mark.one_acceptor


class Worker:
    """The counters of a worker, without the process."""

    def __init__(self, parent: GatheredMetrics, index: int) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter("calls", "Calls.", ["code"], registry=self.registry)
        self.took = Histogram("took", "Seconds.", registry=self.registry, buckets=(1.0,))
        self.busy = Gauge("busy", "Places.", ["port"], registry=self.registry)
        self.end = parent.connect(index)

    def answers(self) -> None:
        """Answers from now on."""
        answer_parent(self.end, self.registry)


@pytest.fixture
def parent() -> Iterator[GatheredMetrics]:
    gathered = GatheredMetrics(2)
    yield gathered
    for index in range(2):
        gathered.disconnect(index)


@pytest.fixture
def impatient(parent: GatheredMetrics, monkeypatch: pytest.MonkeyPatch) -> GatheredMetrics:
    """Limits the time to wait for a worker that a test keeps from answering."""
    monkeypatch.setattr(worker_metrics, "PATIENCE_SECONDS", 0.2)
    return parent


def shown(parent: GatheredMetrics) -> dict[str, float]:
    """The numbers that a scrape shows, as Prometheus reads them, without the numbers of the
    process.
    """
    text = generate_latest(parent.registry).decode()
    return {
        " ".join([sample.name, *(f"{name}={value}" for name, value in labels)]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.startswith("process_")
        for labels in [sorted(sample.labels.items())]
    }


def test_counters_are_summed_and_gauges_have_a_label_for_the_worker(parent: GatheredMetrics):
    for index in range(2):
        worker = Worker(parent, index)
        worker.calls.labels("OK").inc(index + 1)
        worker.took.observe(0.5)
        worker.busy.labels("main").set(index + 5)
        worker.answers()
    for _ in range(2):  # The same again: nothing is counted twice.
        assert shown(parent) == {
            "session_authority_worker_up worker=0": 1,
            "session_authority_worker_up worker=1": 1,
            "calls_total code=OK": 3,
            "took_bucket le=1.0": 2,
            "took_bucket le=+Inf": 2,
            "took_count": 2,
            "took_sum": 1.0,
            "busy port=main worker=0": 5,
            "busy port=main worker=1": 6,
        }


def test_a_worker_s_counts_outlive_it(impatient: GatheredMetrics):
    for number in range(3):
        worker = Worker(impatient, 0)
        assert shown(impatient).get("calls_total code=OK", 0) == 10 * number
        worker.calls.labels("OK").inc(10)
        worker.busy.labels("main").set(1)
        worker.answers()
        counted = 10 * (number + 1)
        wait_for(lambda n=counted: shown(impatient)["calls_total code=OK"] == n, "the count")  # type: ignore[misc]
        impatient.disconnect(0)
        after = shown(impatient)
        assert after["calls_total code=OK"] == counted
        assert after["session_authority_worker_up worker=0"] == 0
        assert "busy port=main worker=0" not in after


def test_a_hung_worker_delays_no_scrape_and_keeps_its_count(impatient: GatheredMetrics):
    hung, sound = Worker(impatient, 0), Worker(impatient, 1)
    hung.calls.labels("OK").inc(4)
    sound.calls.labels("OK").inc(1)
    sound.answers()
    for _ in range(300):  # More requests than fit between two sockets, if each were sent.
        impatient._links[0].ask()

    def counted() -> tuple[float, float]:
        found = shown(impatient)
        return found["session_authority_worker_up worker=0"], found.get("calls_total code=OK", 0)

    wait_for(lambda: counted() == (0, 1), "the sound worker to answer")
    hung.answers()
    wait_for(lambda: counted() == (1, 5), "the late answer, and the new one")


class _Broken(Collector):
    """Raises an error while the test says so."""

    is_broken = True

    def collect(self) -> Iterator[Metric]:
        if self.is_broken:
            raise RuntimeError
        return iter(())


def test_a_worker_that_cannot_send_its_metrics_is_down_until_it_can(
    impatient: GatheredMetrics,
    logged: list[MutableMapping[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(worker_metrics, "_throttle", LogThrottle(60.0))
    worker, broken = Worker(impatient, 0), _Broken()
    worker.calls.labels("OK").inc(4)
    worker.busy.labels("main").set(1)
    worker.answers()
    up, busy = "session_authority_worker_up worker=0", "busy port=main worker=0"
    wait_for(lambda: shown(impatient)[up] == 1, "the worker to be heard")
    broken.is_broken = False
    worker.registry.register(broken)
    broken.is_broken = True
    for _ in range(2):
        found = shown(impatient)
        assert (found[up], found["calls_total code=OK"]) == (0, 4)
        assert busy not in found
    assert [line["event"] for line in logged] == ["worker_metrics_failed"]
    broken.is_broken = False
    wait_for(lambda: shown(impatient)[up] == 1, "the worker to be heard again")


def test_a_worker_whose_socket_is_closed_is_down(impatient: GatheredMetrics):
    worker = Worker(impatient, 0)
    worker.calls.labels("OK").inc(4)
    worker.busy.labels("main").set(1)
    worker.answers()
    up = "session_authority_worker_up worker=0"
    wait_for(lambda: shown(impatient)[up] == 1, "the worker to be heard")
    worker.end.shutdown(socket.SHUT_RDWR)
    for _ in range(2):
        found = shown(impatient)
        assert (found[up], found["calls_total code=OK"]) == (0, 4)
        assert "busy port=main worker=0" not in found


def test_an_answer_that_stops_in_the_middle_delays_no_scrape(impatient: GatheredMetrics):
    end = impatient.connect(0)
    end.sendall(worker_metrics._HEAD.pack(1, 1000) + b"[")
    assert shown(impatient)["session_authority_worker_up worker=0"] == 0
    end.shutdown(socket.SHUT_RDWR)
    assert shown(impatient)["session_authority_worker_up worker=0"] == 0
    end.close()
