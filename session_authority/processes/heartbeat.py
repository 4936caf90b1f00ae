"""Finds workers that hang, for their parent process (the supervisor).

The event loop of each worker writes beats into a pipe. If the beats stop, the loop is blocked, or
the process is stopped. This module only finds hung workers. `workers` ends and replaces them.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NoReturn

from session_authority.runtime.tasks import repeat

BEAT_SECONDS = 0.5
# An event loop under load is late by tenths of a second. Nothing that runs in the loop takes whole
# seconds.
HUNG_AFTER_SECONDS = 10.0
# Before its first beat a worker loads code, keys and rules, perhaps on a busy machine.
STARTED_AFTER_SECONDS = 60.0
# If more time passes between two checks, the supervisor itself did not run. Perhaps the workers did
# not run either, because all processes or the machine were stopped. So only this much of the time
# counts as silence of a worker.
MAX_STEP_SECONDS = 1.0


class Heart:
    """The worker's end of the pipe. It sends the beats."""

    def __init__(self, writer: Connection) -> None:
        self._writer = writer
        # The pipe fills while the supervisor does not run. The worker must not wait for the
        # supervisor.
        os.set_blocking(writer.fileno(), False)
        self._beating: asyncio.Task[NoReturn] | None = None

    def start(self) -> None:
        """Starts the beats, which go on for as long as the event loop runs."""
        self._beat()
        self._beating = asyncio.create_task(repeat(self._beat, BEAT_SECONDS, "beat_failed"))

    def _beat(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._writer.fileno(), b".")


class Pulse:
    """The supervisor's end of one worker's pipe. It receives the beats."""

    def __init__(self, reader: Connection) -> None:
        self._reader = reader
        os.set_blocking(reader.fileno(), False)
        self._silent_seconds = 0.0
        self._limit_seconds = STARTED_AFTER_SECONDS

    def is_hung(self, passed_seconds: float) -> bool:
        """Returns True if the worker has sent no beat for too long.

        `passed_seconds` is the time since the last call of this method.
        """
        if self._beats():
            self._silent_seconds, self._limit_seconds = 0.0, HUNG_AFTER_SECONDS
        else:
            self._silent_seconds += min(passed_seconds, MAX_STEP_SECONDS)
        return self._silent_seconds > self._limit_seconds

    def close(self) -> None:
        """Closes the pipe."""
        self._reader.close()

    def _beats(self) -> bool:
        try:
            return bool(os.read(self._reader.fileno(), 4096))
        except BlockingIOError:
            return False
