"""The interface with which both clients report their calls, for example to `metrics.ClientMetrics`.

Without a recorder nothing is measured.
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
    """Hears of the calls of clients, in any thread. Must return at once and raise nothing.

    Any object with these methods is one, so that calls can be counted by OpenTelemetry or else.
    """

    def begin(self, method: str) -> None:
        """A call begins, or begins to wait for its turn."""

    def end(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """A call has ended, after so many seconds, its retries and its wait included."""

    def retry(self, method: str) -> None:
        """A call is made again, as a server that stops had dropped it."""

    def batch(self, size: int) -> None:
        """So many validations go together."""

    def cache(self, cache: NearCache) -> None:
        """A client has this cache."""


class _Recorded:
    """Tells a recorder of one call."""

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
    """A block in which a call is made."""
    return _NOTHING if recorder is None else _Recorded(recorder, method)


def recorded_until_done(
    recorder: Recorder | None, method: str, done: Callable[[Any, BaseException | None], None]
) -> Callable[[Any, BaseException | None], None]:
    """The same for a call that is begun now, and that ends when the returned function is called."""
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
