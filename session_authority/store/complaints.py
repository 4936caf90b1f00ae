"""What becomes of a driver's error: StoreUnavailable for callers, and now and then a line in the log."""

from __future__ import annotations

from time import monotonic

import structlog
from redis.exceptions import ClusterDownError, MaxConnectionsError, ReadOnlyError, ResponseError, TryAgainError

from session_authority.domain.errors import StoreUnavailable

# Not carried out: the primary has just moved, or is about to.
REFUSED = (ReadOnlyError, TryAgainError, ClusterDownError)

_log = structlog.get_logger(__name__)


def unavailable(error: Exception) -> StoreUnavailable:
    """What callers may know of a driver's error. Its text can hold keys and passwords: only its type is logged."""
    refused = isinstance(error, ResponseError) and not isinstance(error, (*REFUSED, MaxConnectionsError))
    kind, code = type(error).__name__, str(error).partition(" ")[0][:24] if refused else ""
    left_out = _complaints.count(f"{kind} {code}", monotonic())
    if left_out is not None:
        if refused:
            _log.error("store_refused", error=kind, code=code, left_out=left_out)
        else:
            _log.warning("store_unavailable", error=kind, left_out=left_out)
    return StoreUnavailable()


class Complaints:
    """Says of each kind of complaint whether it is worth a line in the log: at most one a second is."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[float, int]] = {}

    def count(self, kind: str, now: float) -> int | None:
        """How many of this kind were left out since the last line, or None if this one is left out too."""
        quiet_until, left_out = self._kinds.get(kind, (now, 0))
        loud = now >= quiet_until
        self._kinds[kind] = (now + 1.0, 0) if loud else (quiet_until, left_out + 1)
        return left_out if loud else None


_complaints = Complaints()
