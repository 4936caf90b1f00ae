"""One wake-up of the event loop handles many events of gRPC."""

from __future__ import annotations

import os
import subprocess
import sys

from session_authority.rpc.wakeups import _Sockets
from tests.support.fork_server import ROOT

# This runs in a process of its own, because grpc.aio chooses its sockets only at its first use.
MANY_CALLS = """
import asyncio
from session_authority.rpc import acceptor_check, wakeups

bytes_read = []

class Counting(wakeups.PipeEnd):
    def recv(self, count):
        found = super().recv(count)
        bytes_read.append(len(found))
        return found

wakeups.PipeEnd = Counting
asyncio.run(acceptor_check.check())
print(sum(bytes_read), len(bytes_read))
"""


def test_everything_that_was_written_is_read_at_once():
    reading, writing = _Sockets().socketpair()
    for _ in range(5):
        os.write(writing.fileno(), b"1")
    assert reading.recv(1) == b"11111"
    for end in (reading, writing, reading):
        end.close()
        assert end.fileno() == -1


def test_standing_tasks_are_woken_once_for_many_events():
    printed = subprocess.run(
        [sys.executable, "-c", MANY_CALLS], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    events, wakeups = map(int, printed.split())
    assert events > wakeups > 0
