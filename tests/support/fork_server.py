"""Starts the command many times and imports it once.

A process that has imported the command forks for each test that starts the command. The fork is a
process like any other, but it needs a second of processor time less, and the tests start hundreds.
Tests of how Python itself starts, such as of buffers and of encodings, start the command
themselves.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MAX_ORDER_BYTES = 1 << 17
# A shell runs this program instead of the command. The program imports little, so it starts fast.
_EXECUTABLE = """\
#!{python} -ES
import json, os, socket, sys
line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
line.connect({address!r})
order = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)])
socket.send_fds(line, [order.encode()], [1, 2])
line.recv(64)
sys.exit(int(line.recv(64)))
"""


class ForkedProcess:
    """A running command, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.pid = int(line.recv(64))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Returns the exit code, or None while the process runs."""
        return self._outcome(0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end. Returns the exit code."""
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
        if self.returncode is None and wait([self._line], timeout):
            self.returncode = int(self._line.recv(64))
            self._line.close()
        return self.returncode


def start_command(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: int, err: int
) -> ForkedProcess:
    """Starts `session-authority` in a session of its own, with an empty input.

    Args:
        arguments: The arguments of the command.
        folder: Its working directory.
        environment: Its whole environment.
        out: The file descriptor of its output.
        err: The file descriptor of its errors and logs.
    """
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect(_server().address)
    order = json.dumps([list(arguments), str(folder), dict(environment)])
    socket.send_fds(line, [order.encode()], [out, err])
    return ForkedProcess(line)


def write_executable(path: Path) -> None:
    """Writes a program that a shell can run as the command."""
    path.write_text(_EXECUTABLE.format(python=sys.executable, address=_server().address))
    path.chmod(0o755)


class _Server:
    """This process's fork server. When this process ends, the server's input ends, and so the
    server ends.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fork-server-")
        self.address = f"{self._folder.name}/line"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(self.address)
            listening.listen(128)
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"from {__name__} import serve; serve({listening.fileno()})",
                ],
                cwd=ROOT,
                # Rich asks for the width when it is imported.
                env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "dumb"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )


_server = cache(_Server)


def serve(listening: int) -> None:
    """Forks for each order, which is a request to start the command. Only the forks return from the
    loop and run the command.
    """
    from session_authority.cli import COMMANDS, command_line, main

    command_line(COMMANDS)  # Imports everything that any command needs.
    if _is_fork(socket.socket(fileno=listening)):
        main()


def _is_fork(listening: socket.socket) -> bool:
    """Accepts orders until the input ends. Returns True in a fork."""
    with listening, selectors.DefaultSelector() as ready:
        ready.register(listening, selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:
                    return False
                if key.fileobj is not listening:
                    ready.unregister(key.fileobj)
                    os.close(key.fd)
                    _report_end(*key.data)
                    continue
                line, _ = listening.accept()
                order, descriptors, _, _ = socket.recv_fds(line, _MAX_ORDER_BYTES, 2)
                child = os.fork()
                if child == 0:
                    for one in (line, ready, listening):
                        one.close()
                    _become(*json.loads(order), *descriptors)
                    return True
                for descriptor in descriptors:
                    os.close(descriptor)
                line.send(b"%d" % child)
                ready.register(os.pidfd_open(child), selectors.EVENT_READ, (child, line))


def _report_end(child: int, line: socket.socket) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with line, suppress(BrokenPipeError):  # No process waits for the end any more.
        line.send(b"%d" % code)


def _become(
    arguments: list[str], folder: str, environment: dict[str, str], out: int, err: int
) -> None:
    os.setsid()
    os.chdir(folder)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
