"""Switches tracing on or off for the process, and provides the object that makes spans.

Tracing is global in a process, like logging. While tracing is off, the service imports no module of
OpenTelemetry. While tracing is off, a validation never calls `active`, because the objects that
answer validations have called `active` in their constructors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from session_authority.runtime.otel import Tracer


class TracingMode(Enum):
    """The destination of spans. OFF means that no spans are made."""

    OFF = "off"
    OTLP = "otlp"


class TracingError(Exception):
    """Tracing can't start: OpenTelemetry is not installed, or a variable `OTEL_*` is wrong. The
    message gives the reason.
    """


_active: Tracer | None = None


def active() -> Tracer | None:
    """Returns the tracer that makes the spans of this process, or None while tracing is off."""
    return _active


def install(tracer: Tracer | None) -> None:
    """Sets the tracer of the process, or removes it if `tracer` is None. Objects that have already
    called `active` keep the tracer that `active` returned.
    """
    global _active
    _active = tracer


@contextmanager
def tracing(mode: TracingMode) -> Iterator[None]:
    """Switches tracing on inside the `with` block, unless `mode` is OFF. With OTLP, the end of the
    block exports the last spans, and waits up to two seconds for this export.

    Raises TracingError if OpenTelemetry is not installed, or if a variable `OTEL_*` is wrong.
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
    except ValueError as error:  # the import reads some variables OTEL_*
        raise TracingError(f"the variables OTEL_* can't be used: {error}") from None
    install(tracer)
    try:
        yield
    finally:
        install(None)
        tracer.shut_down()


_NOTHING: AbstractContextManager[Any] = nullcontext()


def store_round_trip(operation: str, script: str) -> AbstractContextManager[Any]:
    """Returns a context manager that makes a span around one exchange with Redis. While tracing is
    off, the context manager does nothing.
    """
    return _NOTHING if _active is None else _active.store_round_trip(operation, script)
