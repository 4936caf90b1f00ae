"""Translates the driver's errors. Callers get StoreUnavailable, and the log gets a limited number
of lines.
"""

from __future__ import annotations

from time import monotonic
from types import TracebackType

import structlog
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError as ResponseError
from redis.exceptions import TimeoutError as TimedOut

from session_authority.domain.errors import StoreUnavailable
from session_authority.runtime.logs import LogThrottle
from session_authority.store.driver.error_counts import note_error

# The errors of commands that were not carried out, because the primary has just moved or is about
# to move.
REFUSED = (ReadOnlyError, TryAgainError, ClusterDownError)
# All errors that an exchange with the server can raise.
EXCHANGE_FAILURES = (RedisError, OSError, TimeoutError)
NO_PERMISSION = "NOPERM"
WRONG_TYPE = "WRONGTYPE"
# The error code of a server that accepts no writes because it can't write its files. The server is
# still a primary.
FILES_NOT_WRITTEN = "MISCONF"
# The error code of a server that has too few replicas. Another server, which has the replicas, may
# have replaced it.
NO_REPLICAS = "NOREPLICAS"
# On Redis 6.2, the error of a script contains these codes for the same refusals.
_NO_PRIMARY_IN_SCRIPT = ("-READONLY ", "-NOREPLICAS ")
# Texts of Valkey and of Redis for a script that may not run a command. Such an error has no code of
# its own.
_NO_PERMISSION_IN_SCRIPT = ("ACL failure in script:", "The user executing the script can't ")

_WANTS_PASSWORD = "wants a user and a password"
_WRONG_PASSWORD = "refuses the user or the password"
_MISSING_PERMISSION = "refuses the user what the service needs: see `session-authority redis-acl`"
_REFUSED_WRITES = {
    FILES_NOT_WRITTEN: "takes no writes: it can't write its files",
    NO_REPLICAS: "takes no writes: too few of its replicas are in step",
}
# The descriptions of errors that last until an operator acts.
REFUSALS = frozenset({_WANTS_PASSWORD, _WRONG_PASSWORD, _MISSING_PERMISSION})

_log = structlog.get_logger(__name__)
_throttle = LogThrottle()


class WritesRefused(Disconnected):
    """The server of a connection accepts no writes. `refusal` is the server's error."""

    def __init__(self, refusal: ResponseError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class _Translation:
    """A context that raises StoreUnavailable in place of the driver's errors. Many reads enter this
    context. It is a class because entering a generator costs forty times as much.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if isinstance(error, EXCHANGE_FAILURES):
            raise unavailable(error) from None


_TRANSLATION = _Translation()


def driver_errors_translated() -> _Translation:
    """Returns a context that raises StoreUnavailable in place of the driver's errors."""
    return _TRANSLATION


def unavailable(error: Exception) -> StoreUnavailable:
    """Counts and logs a driver's error, and returns the error that callers get in its place. The
    driver's text can contain keys and passwords. So only the type of the error is logged, and the
    server's code if the server refused a command.
    """
    if isinstance(error, WritesRefused):
        error = error.refusal
    note_error(error)
    refused = isinstance(error, ResponseError) and not isinstance(
        error, (*REFUSED, MaxConnectionsError)
    )
    kind, code = type(error).__name__, code_of(error) if refused else ""
    left_out = _throttle.count(f"{kind} {code}", monotonic())
    if left_out is not None:
        if refused:
            _log.error("store_refused", error=kind, code=code, left_out=left_out)
        else:
            _log.warning("store_unavailable", error=kind, left_out=left_out)
    return StoreUnavailable()


def doubts_primary(error: Exception) -> bool:
    """Returns True if the error is a reason to doubt that the server is the primary. Such a server
    did not answer in time, closed the connection, is a replica, or has too few replicas.
    """
    return (
        isinstance(error, (Disconnected, TimedOut, ReadOnlyError, MasterDownError))
        or code_of(error) == NO_REPLICAS
        or any(code in str(error) for code in _NO_PRIMARY_IN_SCRIPT)
    )


def lacks_room(error: Exception) -> bool:
    """Returns True if a primary refused a write because its memory is full or because it can't
    write its files. Reads from such a primary are still correct.
    """
    return isinstance(error, OutOfMemoryError) or code_of(error) == FILES_NOT_WRITTEN


def code_of(error: Exception) -> str:
    """Returns the server's code for an error. The code is NOPERM if a permission is missing, even
    in a script.
    """
    text = str(error)
    if isinstance(error, NoPermissionError) or any(
        words in text for words in _NO_PERMISSION_IN_SCRIPT
    ):
        return NO_PERMISSION
    return text.partition(" ")[0][:24]


def in_plain_words(error: BaseException) -> str:
    """Describes a driver's error for an operator. The description never contains text from the
    server.
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    for cause in causes:  # the error of the cluster client says less than the error that caused it
        if isinstance(cause, AuthenticationError):
            missing = cause.status_code == "NOAUTH"
            return _WANTS_PASSWORD if missing else _WRONG_PASSWORD
        if isinstance(cause, ReadOnlyError):
            return "takes no writes: it is a replica"
        if isinstance(cause, BusyLoadingError):
            return "is still reading its files"
        if isinstance(cause, OutOfMemoryError):
            return "is full: it refuses what sign-ins write"
        if isinstance(cause, ClusterDownError):
            return "says that the cluster is down"
        if isinstance(cause, MasterNotFoundError):
            return (
                "is not to be found: no Sentinel answers that knows a primary of this name, or none"
                " lets the user in"
            )
        if isinstance(cause, ResponseError):
            if code_of(cause) == NO_PERMISSION:
                return _MISSING_PERMISSION
            return _REFUSED_WRITES.get(code_of(cause), "refuses what it is asked")
    return (
        "does not answer"
        if isinstance(error, (RedisError, OSError))
        else "gives answers that make no sense"
    )
