"""Runs one or several processes of the service. Several processes listen on the same port, and the
kernel spreads the connections over the processes (SO_REUSEPORT).

Several processes (workers) have a parent process, the supervisor, which answers no calls. The
supervisor starts the workers, kills workers that hang, replaces workers that died, and serves the
metrics of all workers. When the supervisor gets SIGTERM or SIGINT, it sends SIGTERM to the workers,
which then end in an orderly way. Workers are spawned and never forked, as gRPC's threads don't
survive a fork. If the supervisor dies, its workers end, too.
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

import structlog

from session_authority.access import AccessError
from session_authority.geoip import GeoipError
from session_authority.processes.health import UnsafeStore
from session_authority.processes.heartbeat import Heart, Pulse
from session_authority.processes.listening import CannotListen, refuse_taken, serve_metrics
from session_authority.processes.options import Mode
from session_authority.processes.serve import serve
from session_authority.processes.signals import survive_hangup
from session_authority.processes.worker_metrics import GatheredMetrics, answer_parent
from session_authority.runtime import descriptors, event_loops, logs
from session_authority.runtime.addresses import Listen
from session_authority.runtime.audit_log import AuditLogError
from session_authority.runtime.settings import Settings
from session_authority.runtime.tls import CertificateError
from session_authority.runtime.tracing import TracingError
from session_authority.tokens import KeyringError

# A worker that died is started again after the short delay. If _MAX_DEATHS workers die within
# _DEATHS_SECONDS, there is a lasting fault, which an operator should see. During such a fault, a
# worker is started again after the long delay if another worker lives. If no worker lives during
# such a fault, the supervisor ends all workers and raises WorkersFailed.
_RESTART_DELAY_SECONDS, _LONG_RESTART_DELAY_SECONDS = 1.0, 10.0
_MAX_DEATHS, _DEATHS_SECONDS = 10, 60.0
# The supervisor checks the workers' beats at this interval.
_LOOK_SECONDS = 0.5
# After its drain time-out, a worker gets this additional time to end, and is then killed. The
# supervisor waits this long for the end of a killed worker.
_END_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class WorkersFailed(Exception):
    """The workers keep dying soon after their start."""


def run(settings: Settings, mode: Mode, ready: Callable[[Listen], None]) -> None:
    """Runs the service in as many processes as the settings say, until this process gets SIGTERM or
    SIGINT.

    With one worker, the service runs in this process, and `ready` is called when the service
    listens. With several workers, `ready` is called when the processes of the workers are started.

    Raises CannotListen if the service can't listen at an address, or can't protect the metrics as
    the settings say. With one worker, also raises the errors that `serve` raises. With several
    workers, also raises CannotListen if a port is 0, and WorkersFailed if the workers keep dying.
    """
    descriptors.raise_limit()
    listens = [
        listen
        for listen in (settings.listen, settings.bearer_listen, settings.health_listen)
        if listen is not None
    ]
    if settings.workers > 1 and any(listen.port == 0 for listen in listens):
        raise CannotListen("several workers need a port that is named; 0 gives each another one")
    for listen in listens:
        refuse_taken(listen)
    if settings.workers == 1:
        event_loops.run(serve(settings, mode, ready), settings.event_loop)
        return
    _Supervisor(settings, replace(mode, share_port=True)).run(ready)


class _Supervisor:
    def __init__(self, settings: Settings, mode: Mode) -> None:
        self._settings = settings
        self._metrics = GatheredMetrics(settings.workers)
        self._workers = [
            _Worker(index, settings, mode, self._metrics) for index in range(settings.workers)
        ]
        self._stopping = False
        self._deaths: deque[float] = deque(maxlen=_MAX_DEATHS)

    def run(self, ready: Callable[[Listen], None]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        serve_metrics(self._metrics.registry, self._settings)
        if self._settings.audit_log is not None:
            survive_hangup()
        for worker in self._workers:
            worker.start_when_due()
        ready(self._settings.listen)
        failed = False
        looked_at_seconds = time.monotonic()
        while not self._stopping and not failed:
            sentinels = [worker.process.sentinel for worker in self._workers if worker.process]
            wait(sentinels, timeout=_LOOK_SECONDS)
            passed_seconds = time.monotonic() - looked_at_seconds
            looked_at_seconds += passed_seconds
            for worker in self._workers:
                worker.kill_if_hung(passed_seconds)
                if worker.has_died() and not self._stopping:
                    failed = failed or not self._replace(worker)
                if not self._stopping:
                    worker.start_when_due()
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(self._settings.drain_timeout.total_seconds() + _END_SECONDS)
        if failed:
            raise WorkersFailed("the workers keep dying; the log says of what")

    def _replace(self, worker: _Worker) -> bool:
        """Plans the start of a new process for a worker whose process has died.

        Returns False, and plans nothing, if workers die too often and no worker lives.
        """
        self._deaths.append(time.monotonic())
        often = (
            len(self._deaths) == _MAX_DEATHS
            and self._deaths[-1] - self._deaths[0] < _DEATHS_SECONDS
        )
        if often and not any(worker.lives() for worker in self._workers):
            return False
        worker.start_after(_LONG_RESTART_DELAY_SECONDS if often else _RESTART_DELAY_SECONDS)
        return True

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True


class _Worker:
    """A worker of the supervisor: its present process, or the time at which its next process
    starts.
    """

    def __init__(
        self, index: int, settings: Settings, mode: Mode, metrics: GatheredMetrics
    ) -> None:
        self._metrics = metrics
        self.process: SpawnProcess | None = None
        self._index = index
        self._settings = settings
        self._mode = mode
        self._pulse: Pulse | None = None
        self._started_at_seconds = 0.0
        self._due_at_seconds = 0.0

    def start_when_due(self) -> None:
        """Starts the worker's process, unless the worker already has a process, or the delay before
        the next process is not over.
        """
        if self.process is not None or time.monotonic() < self._due_at_seconds:
            return
        context = multiprocessing.get_context("spawn")
        reader, writer = context.Pipe(duplex=False)
        link = self._metrics.connect(self._index)
        with writer, link:  # the worker has its own copies
            self.process = context.Process(
                target=_work,
                args=(self._settings, self._mode, self._index, writer, link),
                daemon=False,
            )
            self.process.start()
        self._pulse = Pulse(reader)
        self._started_at_seconds = time.monotonic()

    def start_after(self, delay_seconds: float) -> None:
        """Sets the delay before the start of the worker's next process."""
        self._due_at_seconds = time.monotonic() + delay_seconds

    def kill_if_hung(self, passed_seconds: float) -> None:
        """Kills the worker's process if its event loop hangs. A process with a hung event loop does
        not react to SIGTERM. `passed_seconds` is the time since the last call of this method.
        """
        if self.process is None or self._pulse is None or self.process.exitcode is not None:
            return
        if self._pulse.is_hung(passed_seconds):
            _log.error("worker_hung", worker=self._index)
            self.process.kill()
            self.process.join(_END_SECONDS)

    def has_died(self) -> bool:
        """Returns True if the worker's process has died. Logs the death and forgets the process, so
        that each death is reported only once.
        """
        if self.process is None or self.process.exitcode is None:
            return False
        _log.error("worker_died", worker=self._index, exit_code=self.process.exitcode)
        self._forget()
        return True

    def lives(self) -> bool:
        """Returns True if the worker's process runs, and was started more than
        _LONG_RESTART_DELAY_SECONDS ago. A process that fails at its start ends sooner.
        """
        return (
            self.process is not None
            and self.process.exitcode is None
            and time.monotonic() - self._started_at_seconds > _LONG_RESTART_DELAY_SECONDS
        )

    def terminate(self) -> None:
        """Sends SIGTERM to the worker's process, so that it ends in an orderly way."""
        if self.process is not None:
            self.process.terminate()

    def join(self, timeout_seconds: float) -> None:
        """Waits until the worker's process has ended. Kills the process if it has not ended after
        `timeout_seconds`.
        """
        if self.process is not None:
            self.process.join(timeout_seconds)
            if self.process.exitcode is None:
                self.process.kill()
                self.process.join(_END_SECONDS)
            self._forget()

    def _forget(self) -> None:
        if self._pulse is not None:
            self._pulse.close()
            self._metrics.disconnect(self._index)
        self.process = self._pulse = None


def _work(
    settings: Settings, mode: Mode, index: int, beats: Connection, link: socket.socket
) -> None:
    logs.configure(settings.log_level)
    try:
        heart = Heart(beats)
        offer = partial(answer_parent, link)
        serving = serve(settings, mode, lambda _: heart.start(), offer)
        event_loops.run(serving, settings.event_loop)
    except (
        AccessError,
        AuditLogError,
        CannotListen,
        CertificateError,
        GeoipError,
        KeyringError,
        TracingError,
        UnsafeStore,
    ) as error:
        _log.error("worker_failed", worker=index, faults=str(error).splitlines())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001
        # The supervisor starts another process for this worker. An uncaught error would print a
        # traceback of many lines, but each log entry must be a single line.
        _log.error("worker_failed", worker=index, **logs.fault(error))
        sys.exit(1)
