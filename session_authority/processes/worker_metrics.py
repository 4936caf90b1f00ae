"""Gathers the metrics of all workers, for one address that Prometheus scrapes.

A pair of sockets connects each worker with its parent process. In each worker, a thread answers the
requests of the parent. The parent asks all workers at the same time, and waits for at most
PATIENCE_SECONDS. The gauges leave out a worker that hangs or is being started. The sums of the
counters still include the last known counts of a worker that hangs or is being started. If a worker
dies, the counts since the last answer of this worker are lost.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from time import monotonic

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from session_authority.runtime.logs import LogThrottle, fault
from session_authority.runtime.metrics import Metrics
from session_authority.runtime.summed_metrics import Family, pack, summed, together, unpack

# The parent waits this long for the answers of workers. Prometheus waits for 10 seconds by default.
# A worker that does not hang answers in a hundredth of a second.
PATIENCE_SECONDS = 2.0
# The gauges of the parent process have this value in the label `worker`.
PARENT = "parent"
# To request metrics, the parent sends a number. The answer has the same number, the length of the
# metrics in bytes, and then the metrics. The length is zero if the worker has no metrics to send.
_QUESTION, _HEAD = struct.Struct("!Q"), struct.Struct("!QI")
_MAX_PART_BYTES = 256 * 1024
_LOG_INTERVAL_SECONDS = 60.0

_log = structlog.get_logger(__name__)
_throttle = LogThrottle(_LOG_INTERVAL_SECONDS)


def answer_parent(end: socket.socket, registry: CollectorRegistry) -> None:
    """Starts a thread that answers the parent's requests for metrics."""
    threading.Thread(target=_answer, args=(end, registry), daemon=True).start()


def _answer(end: socket.socket, registry: CollectorRegistry) -> None:
    end.setblocking(True)
    with suppress(OSError), end:  # the parent has ended, so this process ends, too
        while question := end.recv(_QUESTION.size, socket.MSG_WAITALL):
            packed = _packed(registry)
            end.sendall(_HEAD.pack(*_QUESTION.unpack(question), len(packed)) + packed)


def _packed(registry: CollectorRegistry) -> bytes:
    """Returns the encoded metrics of this worker. Returns no bytes after an error, because an error
    must not end the thread.
    """
    try:
        return pack(registry)
    except Exception as error:  # noqa: BLE001 - any collector may raise any error
        if _throttle.count("failed", monotonic()) is not None:
            _log.error("worker_metrics_failed", **fault(error))
        return b""


class WorkerLink:
    """The parent's end of the connection to a worker.

    The link gets a new connection each time a process of the worker is started.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.last: Sequence[Family] = ()
        """The metrics in the last answer that had metrics. `last` is empty before the first answer
        with metrics.
        """
        self.is_sound = False
        """True if the worker is connected, and its last answer had metrics."""
        self.socket: socket.socket | None = None
        self._asked = self._answered = 0
        self._received = bytearray()

    def connect(self) -> socket.socket:
        """Makes a new connection. Returns the worker's end of the connection, for the process that
        is about to start.
        """
        self.socket, other = socket.socketpair()
        self.socket.setblocking(False)
        self._asked = self._answered = 0
        self._received.clear()
        return other

    def disconnect(self) -> Sequence[Family]:
        """Closes the connection to a worker's process that has ended. Returns the last metrics of
        the ended process.
        """
        self._hang_up()
        last, self.last = self.last, ()
        return last

    @property
    def waits(self) -> bool:
        """True if the worker is connected and has not answered the last request for metrics yet."""
        return self.socket is not None and self._answered < self._asked

    def ask(self) -> None:
        """Asks the worker for metrics.

        Does nothing if the worker has no connection. Also does nothing while an earlier request has
        no answer, so that requests do not pile up at a worker that hangs.
        """
        if self.socket is not None and not self.waits:
            try:
                self.socket.send(_QUESTION.pack(self._asked + 1))
            except OSError:
                self._hang_up()
            else:
                self._asked += 1

    def hear(self) -> None:
        """Receives the next bytes of an answer from the worker. Stores the metrics when the answer
        is complete.
        """
        assert self.socket is not None
        try:
            part = self.socket.recv(_MAX_PART_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:  # a worker without connection counts as down until its next start
            self._hang_up()
            return
        self._received += part
        if len(self._received) >= _HEAD.size:
            number, size = _HEAD.unpack_from(self._received)
            if len(self._received) >= _HEAD.size + size:
                self.is_sound = size > 0
                if self.is_sound:
                    self.last = unpack(bytes(self._received[_HEAD.size : _HEAD.size + size]))
                del self._received[: _HEAD.size + size]
                self._answered = number

    def _hang_up(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket, self.is_sound = None, False


class GatheredMetrics(Collector):
    """Collects the metrics of all workers, and of this process, which is the parent of the
    workers.
    """

    def __init__(self, workers: int) -> None:
        self._links = [WorkerLink(str(index)) for index in range(workers)]
        self._gone: list[Family] = []
        self._own = CollectorRegistry()
        ProcessCollector(registry=self._own)
        self._lock = threading.Lock()
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def connect(self, index: int) -> socket.socket:
        """Connects a worker that is about to start. Returns the worker's end of the connection."""
        with self._lock:
            return self._links[index].connect()

    def disconnect(self, index: int) -> None:
        """Disconnects a worker that has ended, and keeps its counts for the sums."""
        with self._lock:
            self._gone = summed([*self._gone, *self._links[index].disconnect()])

    def describe(self) -> Iterator[Metric]:
        """Returns all metrics without values. The Prometheus library uses the result for scrapes
        that ask only for some metrics.
        """
        for metric in (_up(), *Metrics().registry.collect()):
            yield Metric(metric.name, metric.documentation, metric.type)

    def collect(self) -> Iterator[Metric]:
        """Returns the gathered metrics of all workers, for a scrape of Prometheus."""
        with self._lock:
            heard = self._gather()
            own = unpack(pack(self._own))
            present = {link.name: link.last for link in self._links if link in heard}
            up = _up()
            for link in self._links:
                up.add_metric([link.name], int(link in heard))
            counted = [*self._gone, *own]
            for link in self._links:
                counted += link.last
            return iter([up, *together(counted, present | {PARENT: own})])

    def _gather(self) -> list[WorkerLink]:
        """Asks all workers for metrics. Returns the workers that have answered with metrics within
        PATIENCE_SECONDS.
        """
        late = [link for link in self._links if link.waits]
        for link in self._links:
            link.ask()
        with selectors.DefaultSelector() as selector:
            for link in self._links:
                if link.waits and link.socket is not None:
                    selector.register(link.socket, selectors.EVENT_READ, link)
            until = monotonic() + PATIENCE_SECONDS
            while selector.get_map() and (left := until - monotonic()) > 0:
                for key, _ in selector.select(left):
                    link = key.data
                    link.hear()
                    if not link.waits and link in late:  # the answer is for an earlier scrape
                        late.remove(link)
                        link.ask()
                    if not link.waits:
                        selector.unregister(key.fileobj)
        return [link for link in self._links if link.is_sound and not link.waits]


def _up() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "session_authority_worker_up",
        "1 if the worker answered this scrape, 0 while it hangs or is started again.",
        labels=["worker"],
    )
