"""Counts the errors of the Redis driver, by kind."""

from __future__ import annotations

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
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as TimedOut

from session_authority.runtime.counters import Labels

# The kinds of errors, each with the classes of its errors. An error gets the first kind with a
# matching class. The order matters, because some classes are subclasses of classes further down.
_KINDS: tuple[tuple[str, tuple[type[BaseException], ...]], ...] = (
    ("authentication", (AuthenticationError,)),
    ("no_permission", (NoPermissionError,)),
    ("loading", (BusyLoadingError,)),
    ("not_primary", (ReadOnlyError, MasterDownError, MasterNotFoundError)),
    ("cluster_down", (ClusterDownError, TryAgainError)),
    ("out_of_memory", (OutOfMemoryError,)),
    ("no_free_connection", (MaxConnectionsError,)),
    ("timeout", (TimedOut, TimeoutError)),
    ("disconnected", (Disconnected, OSError)),
    ("refused", (ResponseError,)),
)
_OTHER = "other"

errors: dict[Labels, int] = {(kind,): 0 for kind in (*(kind for kind, _ in _KINDS), _OTHER)}
"""How many exchanges of this process with Redis failed, by the kind of error. One failed exchange
may count several times, for example once for each task that waited for its result.
"""


def note_error(error: BaseException) -> None:
    """Adds 1 to the number in `errors` for the kind of this error."""
    kind = next((kind for kind, types in _KINDS if isinstance(error, types)), _OTHER)
    errors[kind,] += 1
