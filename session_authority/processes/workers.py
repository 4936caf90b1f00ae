"""Several processes on one port: the kernel spreads connections over them (SO_REUSEPORT).

The parent serves nothing; it starts the workers, starts one anew that died, and passes an orderly
end on. Workers are spawned, never forked: gRPC's threads don't survive a fork. A worker whose
parent is gone ends too.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType

import structlog

from session_authority.access import AccessError
from session_authority.processes.health import UnsafeStore
from session_authority.processes.listening import CannotListen, refuse_taken
from session_authority.processes.options import Mode
from session_authority.processes.serve import serve
from session_authority.runtime import descriptors, logs
from session_authority.runtime.addresses import Listen
from session_authority.runtime.settings import Settings
from session_authority.runtime.tls import CertificateError
from session_authority.tokens import KeyringError

# A worker that dies is not started again at once. After so many deaths in so many seconds something
# keeps them from living, which an operator should see: then a worker is started seldom as
# long as another one lives, and else no more.
_RESTART_DELAY_SECONDS, _LONG_RESTART_DELAY_SECONDS = 1.0, 10.0
_MAX_DEATHS, _DEATHS_SECONDS = 10, 60.0

_log = structlog.get_logger(__name__)


class WorkersFailed(Exception):
    """The workers die as fast as they are started."""


def run(settings: Settings, mode: Mode, ready: Callable[[Listen], None]) -> None:
    """Runs the service in as many processes as set, until SIGTERM or SIGINT. Raises CannotListen,
    KeyringError, WorkersFailed.
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
        asyncio.run(serve(settings, mode, ready))
        return
    _Supervisor(settings, replace(mode, share_port=True)).run(ready)


class _Supervisor:
    def __init__(self, settings: Settings, mode: Mode) -> None:
        self._settings = settings
        self._mode = mode
        self._context = multiprocessing.get_context("spawn")
        self._stopping = False
        self._deaths: deque[float] = deque(maxlen=_MAX_DEATHS)
        self._started: dict[int, float] = {}

    def run(self, ready: Callable[[Listen], None]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        workers = [self._start(index) for index in range(self._settings.workers)]
        ready(self._settings.listen)
        failed = False
        while not self._stopping:
            wait([worker.sentinel for worker in workers], timeout=0.5)
            for index, worker in enumerate(workers):
                if worker.exitcode is not None and not self._stopping:
                    _log.error("worker_died", worker=index, exit_code=worker.exitcode)
                    self._deaths.append(time.monotonic())
                    often = (
                        len(self._deaths) == _MAX_DEATHS
                        and self._deaths[-1] - self._deaths[0] < _DEATHS_SECONDS
                    )
                    if often and not any(
                        self._lives(index, worker) for index, worker in enumerate(workers)
                    ):
                        failed = self._stopping = True
                        break
                    self._pause(_LONG_RESTART_DELAY_SECONDS if often else _RESTART_DELAY_SECONDS)
                    workers[index] = self._start(index)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(self._settings.drain_timeout.total_seconds() + 5)
            if worker.exitcode is None:
                worker.kill()
        if failed:
            raise WorkersFailed("the workers keep dying; the log says of what")

    def _lives(self, index: int, worker: SpawnProcess) -> bool:
        """Whether a worker has been there for longer than those that can't live."""
        return (
            worker.exitcode is None
            and time.monotonic() - self._started[index] > _LONG_RESTART_DELAY_SECONDS
        )

    def _pause(self, seconds: float) -> None:
        """Waits, unless it is to stop."""
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(0.1)

    def _start(self, index: int) -> SpawnProcess:
        worker = self._context.Process(
            target=_work, args=(self._settings, self._mode, index), daemon=False
        )
        worker.start()
        self._started[index] = time.monotonic()
        return worker

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True


def _work(settings: Settings, mode: Mode, index: int) -> None:
    logs.configure(settings.log_level)
    if settings.metrics_listen is not None:
        mine = settings.metrics_listen.with_port(settings.metrics_listen.port + index)
        settings = settings.model_copy(update={"metrics_listen": mine})
    try:
        asyncio.run(serve(settings, mode, lambda _: None))
    except (AccessError, CannotListen, CertificateError, KeyringError, UnsafeStore) as error:
        _log.error("worker_failed", worker=index, faults=str(error).splitlines())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001
        # The parent starts another; what went wrong must be told in one line.
        _log.error("worker_failed", worker=index, **logs.fault(error))
        sys.exit(1)
