"""Defines the interface through which a client reports its calls, for example to
`metrics.ClientMetrics`.

A client without a recorder measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol

import grpc

from session_authority_client.cache import NearCache
from session_authority_client.errors import SessionAuthorityError

_NOTHING = nullcontext()


class Recorder(Protocol):
    """An object that counts or measures the calls of clients. A client notifies its recorder about
    each of its calls, except watches. A client can call the recorder's methods in any thread. The
    methods must return at once, and must not raise exceptions.

    Any object with the methods of this class is a recorder. So an app can count the calls with any
    library, such as OpenTelemetry.
    """

    def begin(self, method: str) -> None:
        """Notes that a call begins, or begins to wait for a slot."""

    def end(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """Notes that a call has ended. `seconds` is the duration of the call, with its retries and
        its wait for a slot. If validations wait in the queue of batches, their call begins only
        after it has a slot, so `seconds` includes no wait.
        """

    def retry(self, method: str) -> None:
        """Notes that a call is repeated, because a server that was stopping dropped the call."""

    def batch(self, size: int) -> None:
        """Notes that a call with `size` validations is sent, or begins to wait for a slot. A call
        of `validate_sessions` is not noted by this method.
        """

    def cache(self, cache: NearCache) -> None:
        """Notes that a client uses this near cache."""


class _Recorded:
    """A context manager that reports one call to a recorder."""

    __slots__ = ("_began_at", "_method", "_recorder")

    def __init__(self, recorder: Recorder, method: str) -> None:
        self._recorder, self._method = recorder, method

    def __enter__(self) -> None:
        self._began_at = perf_counter()
        self._recorder.begin(self._method)

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self._recorder.end(self._method, _code_of(error), perf_counter() - self._began_at)


def recorded(recorder: Recorder | None, method: str) -> AbstractContextManager[None]:
    """Returns a context manager that reports one call to the recorder. Without a recorder, the
    context manager does nothing.
    """
    return _NOTHING if recorder is None else _Recorded(recorder, method)


def recorded_until_done(
    recorder: Recorder | None, method: str, done: Callable[[Any, BaseException | None], None]
) -> Callable[[Any, BaseException | None], None]:
    """Reports a call that begins now, if there is a recorder. Returns a function that reports the
    end of the call, and then calls `done`. Without a recorder, returns `done` itself.
    """
    if recorder is None:
        return done
    recording = _Recorded(recorder, method)
    recording.__enter__()

    def ended(response: Any, error: BaseException | None) -> None:
        recording.__exit__(None, error, None)
        done(response, error)

    return ended


def _code_of(error: BaseException | None) -> grpc.StatusCode:
    if error is None:
        return grpc.StatusCode.OK
    if isinstance(error, SessionAuthorityError):
        return error.code
    return grpc.StatusCode.UNKNOWN if isinstance(error, Exception) else grpc.StatusCode.CANCELLED
