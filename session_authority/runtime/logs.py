"""Writes structured logs: readable lines on a terminal, and JSON lines elsewhere.

The log never contains a token, a key, or an end user's address or user agent. About an unexpected
exception, the log contains only the type of the exception and the places in the code that the
exception passed. The text of the exception and the values of variables are left out, because they
could contain secrets.
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
# The limit of the kinds of events that a `LogThrottle` remembers. A kind can contain a name from a
# client's certificate, so clients can invent kinds.
_MAX_KINDS = 1024

# The name of the caller whose call is being answered. Each line that is logged during the call
# contains this name.
caller_name: ContextVar[str | None] = ContextVar("caller_name", default=None)
# The fields that identify the call that is being answered: `request_id` and, while tracing is on,
# `trace_id` and `span_id`.
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
        # This logger writes a line and its line break together. The worker processes share a
        # stream, and separate writes of several processes could mix.
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    # Log lines of libraries can contain the text of exceptions and the arguments of calls. So only
    # critical lines of libraries are written, as plain text, and no lines at all of asyncio and
    # grpc. The service itself logs the useful facts.
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
    """Returns the facts about an unexpected exception that the log may contain: the type of the
    exception, and the last 12 frames of its stack trace. The innermost frame is the last one.
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
    that no code awaits. About each error, the log gets only the facts that `fault` returns.
    """

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        details = fault(error) if isinstance(error, BaseException) else {}
        structlog.get_logger(__name__).error("unhandled_in_background", **details)

    asyncio.get_running_loop().set_exception_handler(handle)


class LogThrottle:
    """Limits log lines to one line in each interval for each kind of event.

    A LogThrottle remembers up to 1,024 kinds. When there are more kinds, the LogThrottle forgets
    the kind whose last event is the oldest. The number of left-out events of the forgotten kind is
    lost.
    """

    def __init__(self, interval_seconds: float = 1.0) -> None:
        self._interval_seconds = interval_seconds
        self._kinds: dict[str, tuple[float, int]] = {}

    def count(self, kind: str, now: float) -> int | None:
        """Counts an event of this kind, which happens at the time `now` in seconds. Returns None if
        the event must be left out of the log. Otherwise returns how many events of this kind were
        left out since the last line of this kind.
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
    """Limits how many log lines of one kind are written in each second."""

    def __init__(self, lines_per_second: int) -> None:
        self._lines_per_second = lines_per_second
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def count(self, now: float) -> int | None:
        """Counts a line that is to be written at the time `now` in seconds. Returns None if the
        line must be left out. Otherwise returns how many lines were left out since the last line
        that was written.
        """
        if int(now) != self._second:
            self._second, self._lines = int(now), 0
        if self._lines >= self._lines_per_second:
            self._left_out += 1
            return None
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
