"""What becomes of a driver's error: StoreUnavailable for callers, and now and then a line in the
log.
"""

from __future__ import annotations

from time import monotonic

import structlog
from redis.exceptions import (
    ClusterDownError,
    MaxConnectionsError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from session_authority.domain.errors import StoreUnavailable
from session_authority.runtime.logs import Complaints

# Not carried out: the primary has just moved, or is about to.
REFUSED = (ReadOnlyError, TryAgainError, ClusterDownError)
NO_PERMISSION = "NOPERM"
# What Valkey and Redis say of a command in a script, with no code of its own.
_NO_PERMISSION_IN_SCRIPT = ("ACL failure in script:", "The user executing the script can't ")

_log = structlog.get_logger(__name__)


def unavailable(error: Exception) -> StoreUnavailable:
    """What callers may know of a driver's error. Its text can hold keys and passwords: only its
    type is logged.
    """
    refused = isinstance(error, ResponseError) and not isinstance(
        error, (*REFUSED, MaxConnectionsError)
    )
    kind, code = type(error).__name__, code_of(error) if refused else ""
    left_out = _complaints.count(f"{kind} {code}", monotonic())
    if left_out is not None:
        if refused:
            _log.error("store_refused", error=kind, code=code, left_out=left_out)
        else:
            _log.warning("store_unavailable", error=kind, left_out=left_out)
    return StoreUnavailable()


def code_of(error: Exception) -> str:
    """The server's code for an error: NOPERM if a permission is missing, wherever that was
    noticed.
    """
    text = str(error)
    if isinstance(error, NoPermissionError) or any(
        words in text for words in _NO_PERMISSION_IN_SCRIPT
    ):
        return NO_PERMISSION
    return text.partition(" ")[0][:24]


_complaints = Complaints()
