"""Counts the driver's errors by their cause."""

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

# Some of the driver's errors are subclasses of other errors. So the order matters: the first kind
# with a matching class counts.
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
"""How many exchanges of this process failed, by the kind of error. One failure may count several
times, for example once for each caller that waited for an answer.
"""


def note_error(error: BaseException) -> None:
    """Counts a failed exchange."""
    kind = next((kind for kind, types in _KINDS if isinstance(error, types)), _OTHER)
    errors[kind,] += 1
