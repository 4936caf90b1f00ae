"""Finds worker processes that hang. The parent process of the workers (the supervisor) uses this
module.

The event loop of each worker writes a byte, called a beat, into a pipe at regular intervals. If the
beats stop, the event loop of the worker is blocked, or its process is stopped. This module only
finds workers that hang, and the module `workers` kills and replaces such workers.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NoReturn

from session_authority.runtime.tasks import repeat

BEAT_SECONDS = 0.5
# A worker that sends no beat for this long counts as hung. Under load, an event loop runs work some
# tenths of a second late. No code that runs in the event loop takes whole seconds.
HUNG_AFTER_SECONDS = 10.0
# A worker that has sent no beat since its start counts as hung only after this longer time. Before
# its first beat, a worker loads code, keys and rules, perhaps on a busy machine.
STARTED_AFTER_SECONDS = 60.0
# At most this much of the time between two checks counts as silence of a worker. If more time
# passes between two checks, the supervisor itself did not run. Perhaps all processes or the whole
# machine were stopped, so that the worker did not run either.
MAX_STEP_SECONDS = 1.0


class Heart:
    """Sends the beats of a worker through the worker's end of the pipe."""

    def __init__(self, writer: Connection) -> None:
        self._writer = writer
        # While the supervisor does not run, the pipe fills up. Writes to a full pipe must fail,
        # because the worker must not wait for the supervisor.
        os.set_blocking(writer.fileno(), False)
        self._beating: asyncio.Task[NoReturn] | None = None

    def start(self) -> None:
        """Sends the first beat now, and a further beat every BEAT_SECONDS for as long as the event
        loop runs.
        """
        self._beat()
        self._beating = asyncio.create_task(repeat(self._beat, BEAT_SECONDS, "beat_failed"))

    def _beat(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._writer.fileno(), b".")


class Pulse:
    """Receives the beats of one worker at the supervisor's end of the pipe."""

    def __init__(self, reader: Connection) -> None:
        self._reader = reader
        os.set_blocking(reader.fileno(), False)
        self._silent_seconds = 0.0
        self._limit_seconds = STARTED_AFTER_SECONDS

    def is_hung(self, passed_seconds: float) -> bool:
        """Returns True if the worker has sent no beat for HUNG_AFTER_SECONDS. Before the first
        beat, the limit is STARTED_AFTER_SECONDS.

        `passed_seconds` is the time since the last call of this method.
        """
        if self._beats():
            self._silent_seconds, self._limit_seconds = 0.0, HUNG_AFTER_SECONDS
        else:
            self._silent_seconds += min(passed_seconds, MAX_STEP_SECONDS)
        return self._silent_seconds > self._limit_seconds

    def close(self) -> None:
        """Closes the supervisor's end of the pipe."""
        self._reader.close()

    def _beats(self) -> bool:
        try:
            return bool(os.read(self._reader.fileno(), 4096))
        except BlockingIOError:
            return False
