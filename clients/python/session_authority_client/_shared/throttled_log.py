"""Log lines about a state that lasts, such as an outage: one line when the state is noticed, and at
most one line a minute, not one for each request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from time import monotonic

_SECONDS_BETWEEN = 60.0
# This is not the logger that other modules keep. It is made only when the first line is written:
# frameworks disable loggers that exist before they configure logging (`disable_existing_loggers`),
# and a project's settings import this package.
_LOGGER = "session_authority_client.states"


class ThrottledLog:
    """Writes the lines of one app. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._next: dict[str, float] = {}

    def error(self, text: str, *values: object) -> None:
        """Writes a line, unless one with this text was written within the last minute."""
        now = self._clock()
        with self._lock:
            if now < self._next.get(text, now):
                return
            self._next[text] = now + _SECONDS_BETWEEN
        logger = logging.getLogger(_LOGGER)
        logger.error(text, *values)
