"""Translates the errors of the Redis driver. Other packages get StoreUnavailable in place of a
driver's error. The number of log lines about driver errors is limited.
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

# The errors with which a server refuses a command while the primary of its key changes. If a
# command fails with one of these errors, the server did not run the command.
REFUSED = (ReadOnlyError, TryAgainError, ClusterDownError)
# The classes of all errors that an exchange with a Redis server can raise.
EXCHANGE_FAILURES = (RedisError, OSError, TimeoutError)
NO_PERMISSION = "NOPERM"
WRONG_TYPE = "WRONGTYPE"
# The error code with which a primary refuses writes because it can't write its files. A server with
# this error is still the primary.
FILES_NOT_WRITTEN = "MISCONF"
# The error code with which a server refuses writes because it has too few replicas. A server with
# this error may no longer be the primary, because its replicas may follow a new primary.
NO_REPLICAS = "NOREPLICAS"
# If a script writes to a replica, or to a server with too few replicas, Redis 6.2 puts these codes
# inside the error text of the script.
_NO_PRIMARY_IN_SCRIPT = ("-READONLY ", "-NOREPLICAS ")
# Parts of the error texts of Valkey and Redis for a script that runs a command without permission.
# These error texts do not begin with the code NOPERM.
_NO_PERMISSION_IN_SCRIPT = ("ACL failure in script:", "The user executing the script can't ")

_WANTS_PASSWORD = "wants a user and a password"
_WRONG_PASSWORD = "refuses the user or the password"
_MISSING_PERMISSION = "refuses the user what the service needs: see `session-authority redis-acl`"
_REFUSED_WRITES = {
    FILES_NOT_WRITTEN: "takes no writes: it can't write its files",
    NO_REPLICAS: "takes no writes: too few of its replicas are in step",
}
# Results of `in_plain_words` for errors that continue until an operator corrects the settings.
REFUSALS = frozenset({_WANTS_PASSWORD, _WRONG_PASSWORD, _MISSING_PERMISSION})

_log = structlog.get_logger(__name__)
_throttle = LogThrottle()


class WritesRefused(Disconnected):
    """Raised if the server of a new connection refuses writes. `refusal` is the server's error."""

    def __init__(self, refusal: ResponseError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class _Translation:
    """A context manager that raises StoreUnavailable in place of the driver's errors. This context
    manager is a class, because many reads enter it, and a context manager from a generator takes
    forty times as long to enter.
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
    """Returns a context manager that raises StoreUnavailable in place of the driver's errors."""
    return _TRANSLATION


def unavailable(error: Exception) -> StoreUnavailable:
    """Counts and logs an error of the driver, and returns the StoreUnavailable to raise in its
    place. The text of the error is not logged, because it can contain keys and passwords. The log
    gets the class of the error and, if the server refused a command, the server's error code.
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
    """Returns True if the error shows that the server may not be the primary. Returns True for
    timeouts, lost connections, and refusals by a replica or by a server with too few replicas.
    """
    return (
        isinstance(error, (Disconnected, TimedOut, ReadOnlyError, MasterDownError))
        or code_of(error) == NO_REPLICAS
        or any(code in str(error) for code in _NO_PRIMARY_IN_SCRIPT)
    )


def lacks_room(error: Exception) -> bool:
    """Returns True if a primary refused a write because its memory is full or because it can't
    write its files. Reads from a primary with a full memory or unwritable files are still correct.
    """
    return isinstance(error, OutOfMemoryError) or code_of(error) == FILES_NOT_WRITTEN


def code_of(error: Exception) -> str:
    """Returns the server's error code, which is the first word of the error text. If a permission
    is missing, returns NOPERM, even if the error of a script begins with another word.
    """
    text = str(error)
    if isinstance(error, NoPermissionError) or any(
        words in text for words in _NO_PERMISSION_IN_SCRIPT
    ):
        return NO_PERMISSION
    return text.partition(" ")[0][:24]


def in_plain_words(error: BaseException) -> str:
    """Returns a description of a driver's error for an operator. The description never contains
    text from the server.
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
