"""Switches tracing on or off for the process, and provides the object that makes spans.

Tracing is global in a process, like its log. While tracing is off, nothing of OpenTelemetry is
imported. While tracing is off, a validation never calls `active`: the objects that serve
validations call `active` once, in their constructors.
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
    """Returns the tracer that makes the spans of this process, or None while tracing is off."""
    return _active


def install(tracer: Tracer | None) -> None:
    """Sets the tracer of the process. Only objects that are made from now on use it."""
    global _active
    _active = tracer


@contextmanager
def tracing(mode: TracingMode) -> Iterator[None]:
    """Makes traces inside the block, unless `mode` is OFF. With OTLP, the end of the block waits up
    to two seconds for the export of the last spans.

    Raises TracingError.
    """
    if mode is TracingMode.OFF:
        yield
        return
    try:
        from session_authority.runtime.otel import exporting

        tracer = exporting()
    except ImportError:
        raise TracingError(
            "TRACING=otlp needs OpenTelemetry: install session-authority[tracing]"
        ) from None
    except ValueError as error:  # OpenTelemetry reads some of these variables when it is imported
        raise TracingError(f"the variables OTEL_* can't be used: {error}") from None
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
