"""Switches tracing on or off for the process, and offers the object that makes spans.

Tracing is global in a process, as its log is. While tracing is off, nothing of OpenTelemetry is
imported. Objects that could make spans call `active` once, in their constructors. Other calls of
`active` are never part of a validation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from session_authority.runtime.otel import Tracer


class TracingMode(Enum):
    """Where spans go."""

    OFF = "off"
    OTLP = "otlp"


class TracingError(Exception):
    """Traces can't be made as they are set; the message says why."""


_active: Tracer | None = None


def active() -> Tracer | None:
    """The tracer that makes the spans of this process. None while tracing is off."""
    return _active


def install(tracer: Tracer | None) -> None:
    """Makes this the tracer of the process, for objects that are made from now on."""
    global _active
    _active = tracer


@contextmanager
def tracing(mode: TracingMode) -> Iterator[None]:
    """Makes traces inside the block, if tracing is set. The end takes no time, or up to two seconds
    for the last spans.

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
    except ValueError as error:  # OpenTelemetry reads some of them when it is imported
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
    """A span around one exchange with the store; nothing while no traces are made."""
    return _NOTHING if _active is None else _active.store_round_trip(operation, script)
