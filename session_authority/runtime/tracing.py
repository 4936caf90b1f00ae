"""Switches tracing on or off for the process, and provides the object that makes spans.

Tracing is global in a process, like its log. While tracing is off, nothing of OpenTelemetry is
imported. Objects that may make spans call `active` once, in their constructors. A validation never
calls `active`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from session_authority.runtime.otel import Tracer


class TracingMode(Enum):
    """The destination of spans."""

    OFF = "off"
    OTLP = "otlp"


class TracingError(Exception):
    """Tracing can't work with its present settings. The message gives the reason."""


_active: Tracer | None = None


def active() -> Tracer | None:
    """The tracer that makes the spans of this process. None while tracing is off."""
    return _active


def install(tracer: Tracer | None) -> None:
    """Sets the tracer of the process. Only objects that are made from now on use it."""
    global _active
    _active = tracer


@contextmanager
def tracing(mode: TracingMode) -> Iterator[None]:
    """Makes traces inside the block, if tracing is switched on. Then the end of the block may take
    up to two seconds, to export the last spans.

    Raises TracingError.
    """
    if mode is TracingMode.OFF:
        yield
        return
    try:
        from session_authority.runtime.otel import exporting
    except ImportError:
        raise TracingError(
            "TRACING=otlp needs OpenTelemetry: install session-authority[tracing]"
        ) from None
    except ValueError as error:  # OpenTelemetry reads some of these variables when it is imported
        raise TracingError(f"the variables OTEL_* can't be used: {error}") from None
    tracer = exporting()
    install(tracer)
    try:
        yield
    finally:
        install(None)
        tracer.shut_down()


_NOTHING: AbstractContextManager[Any] = nullcontext()


def store_round_trip(operation: str, script: str) -> AbstractContextManager[Any]:
    """Makes a span around one exchange with the store. Does nothing while tracing is off."""
    return _NOTHING if _active is None else _active.store_round_trip(operation, script)
