"""Writes structured logs: readable lines on a terminal, and JSON lines elsewhere.

The log never contains a token, a key, or an end user's address or user agent. Of an unexpected
exception, the log contains only the type and the places in the code. The text of the exception, and
the values of variables, could contain secrets.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, TextIO

import structlog

_MAX_FRAMES = 12
# The limit of kinds of events that a throttle remembers. A kind can contain a name from a peer's
# certificate, so peers can invent kinds.
_MAX_KINDS = 1024

# The name of the caller whose call is being answered. Each line that is logged during the call
# contains it.
caller_name: ContextVar[str | None] = ContextVar("caller_name", default=None)
# The fields that identify the call: `request_id` and, while traces are made, `trace_id` and
# `span_id`.
call_fields: ContextVar[Mapping[str, str] | None] = ContextVar("call_fields", default=None)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Sets up logging for this process, to standard error or to `stream`."""
    out = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            _add_call,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer()
            if out.isatty()
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        # The line and its line break are written together. The workers share a stream, and their
        # lines must not mix.
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    # Libraries log the text of exceptions and the arguments of calls. So only their critical lines
    # are written, as plain text, and the service logs the useful facts itself. Of asyncio and grpc,
    # no lines are written.
    logging.basicConfig(
        stream=out, level=logging.CRITICAL, format="%(levelname)s %(name)s %(message)s", force=True
    )
    for name in ("asyncio", "grpc"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _add_call(
    _logger: object, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    name = caller_name.get()
    if name is not None:
        line.setdefault("caller", name)
    for field, value in (call_fields.get() or {}).items():
        line.setdefault(field, value)
    return line


def fault(error: BaseException) -> dict[str, Any]:
    """Returns the facts of an unexpected exception that the log may contain: its type, and the last
    12 frames that it passed, the innermost last.
    """
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    return {
        "error": f"{type(error).__module__}.{type(error).__qualname__}",
        "trace": [
            f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}"
            for frame in frames
        ],
    }


def watch_loop() -> None:
    """Makes the running event loop log the errors that no code handles, such as the error of a task
    that nobody awaits. The log gets only the facts that `fault` returns.
    """

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        details = fault(error) if isinstance(error, BaseException) else {}
        structlog.get_logger(__name__).error("unhandled_in_background", **details)

    asyncio.get_running_loop().set_exception_handler(handle)


class LogThrottle:
    """A throttle for the log: at most one line in an interval for each kind of event.

    It remembers up to 1,024 kinds. If there are more, it forgets the kind whose last event is the
    oldest, with the count of its left-out lines.
    """

    def __init__(self, interval_seconds: float = 1.0) -> None:
        self._interval_seconds = interval_seconds
        self._kinds: dict[str, tuple[float, int]] = {}

    def count(self, kind: str, now: float) -> int | None:
        """Counts an event of this kind. Returns how many events of the kind were left out since its
        last line, or None if this event is left out, too. `now` is in seconds.
        """
        quiet_until, left_out = self._kinds.pop(kind, (now, 0))
        loud = now >= quiet_until
        self._kinds[kind] = (
            (now + self._interval_seconds, 0) if loud else (quiet_until, left_out + 1)
        )
        if len(self._kinds) > _MAX_KINDS:
            del self._kinds[next(iter(self._kinds))]
        return left_out if loud else None


class LineBudget:
    """A budget for lines of one kind. It limits the lines in each second."""

    def __init__(self, lines_per_second: int) -> None:
        self._lines_per_second = lines_per_second
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def count(self, now: float) -> int | None:
        """Counts a line. Returns how many lines were left out since the last line that was written,
        or None if this line is left out, too. `now` is in seconds.
        """
        if int(now) != self._second:
            self._second, self._lines = int(now), 0
        if self._lines >= self._lines_per_second:
            self._left_out += 1
            return None
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
