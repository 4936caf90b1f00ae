"""Starts the command many times and imports it once.

A process that has imported the command forks for each test that starts one. What runs then is a
process like any other, but it is there a second of computing earlier, and the tests start hundreds.
Tests of how Python itself starts, such as of buffers and of encodings, start the command themselves.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from io import FileIO
from multiprocessing.connection import wait
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MAX_ORDER_BYTES = 1 << 17


class ForkedProcess:
    """A running command, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, report: int) -> None:
        self._report = FileIO(report)
        self.pid = int(self._report.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        return self._outcome(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        code = self._outcome(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)

    def _outcome(self, timeout: float | None) -> int | None:
        if self.returncode is None and wait([self._report.fileno()], timeout):
            self.returncode = int(self._report.readline())
            self._report.close()
        return self.returncode


def start_command(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: int, err: int
) -> ForkedProcess:
    """Starts `session-authority` in a session of its own, with nothing to read.

    Args:
        arguments: What follows the command's name.
        folder: Its working directory.
        environment: Its whole environment.
        out: The file descriptor that its output goes to.
        err: The file descriptor that its errors and logs go to.
    """
    order = json.dumps([list(arguments), str(folder), dict(environment)]).encode()
    mine, its = os.pipe()
    try:
        socket.send_fds(_server()[0], [order], [out, err, its])
    finally:
        os.close(its)
    return ForkedProcess(mine)


@cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A line to this process's fork server, which ends when the line does."""
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        server = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve({its.fileno()})"],
            cwd=ROOT,
            # Rich asks for the width when it is imported.
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
            start_new_session=True,
        )
    return mine, server


def serve(line: int) -> None:
    """Forks for each order that comes; the forks alone return from the loop and run the command."""
    from session_authority.cli import main

    if _is_fork(socket.socket(fileno=line)):
        main()


def _is_fork(line: socket.socket) -> bool:
    """Takes orders until the line ends. Returns True in a fork."""
    with line, selectors.DefaultSelector() as ready:
        ready.register(line, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is not line:
                    ready.unregister(key.fileobj)
                    os.close(key.fd)
                    _report_end(*key.data)
                    continue
                order, descriptors, _, _ = socket.recv_fds(line, _MAX_ORDER_BYTES, 3)
                if not order:
                    return False
                child = os.fork()
                if child == 0:
                    ready.close()
                    line.close()
                    _become(*json.loads(order), *descriptors[:2])
                    return True
                out, err, report = descriptors
                os.close(out)
                os.close(err)
                os.write(report, b"%d\n" % child)
                ready.register(os.pidfd_open(child), selectors.EVENT_READ, (child, report))


def _report_end(child: int, report: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(report, b"%d\n" % code)
    os.close(report)


def _become(
    arguments: list[str], folder: str, environment: dict[str, str], out: int, err: int
) -> None:
    os.setsid()
    os.chdir(folder)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
