"""Writes log lines about a state that lasts, such as an outage. The first line is written when the
state is noticed. After the first line, at most one line a minute is written about the same state,
even if there are many requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from time import monotonic

_SECONDS_BETWEEN = 60.0
# This logger is not the logger of the other modules. The logger is created only when the first line
# is written, because frameworks disable loggers that exist before they configure logging
# (`disable_existing_loggers`). The settings of a Django project import this package before Django
# configures logging.
_LOGGER = "session_authority_client.states"


class ThrottledLog:
    """Writes the log lines about lasting states of one app, and limits repeated lines. Several
    threads may use the same object.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._next: dict[str, float] = {}

    def error(self, text: str, *values: object) -> None:
        """Writes a line, unless a line with the same `text` was written within the last minute."""
        now = self._clock()
        with self._lock:
            if now < self._next.get(text, now):
                return
            self._next[text] = now + _SECONDS_BETWEEN
        logger = logging.getLogger(_LOGGER)
        logger.error(text, *values)
