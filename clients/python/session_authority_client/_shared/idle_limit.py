"""Reads the service's limits of idle timeouts. The service names these limits when it refuses an
idle timeout.
"""

from __future__ import annotations

from datetime import timedelta

from session_authority_client.errors import InvalidRequest


def idle_limit(
    refusal: InvalidRequest, asked: timedelta | None, *, lengthen: bool
) -> timedelta | None:
    """Returns the accepted idle timeout that is closest to the requested idle timeout. This is the
    service's maximum, or its minimum. The minimum is returned only with `lengthen`.

    Returns None if no idle timeout was requested, or if the service refused the sign-in for another
    reason or for several reasons. Also returns None if the refusal does not name the limits, and if
    the minimum is needed without `lengthen`.
    """
    if asked is None or [broken.field for broken in refusal.violations] != ["idle_timeout"]:
        return None
    try:
        least, most = (int(refusal.metadata[name]) for name in ("min_seconds", "max_seconds"))
        shortest, longest = timedelta(seconds=least), timedelta(seconds=most)
    except (KeyError, ValueError, OverflowError):
        return None
    if asked > longest:
        return longest
    return shortest if lengthen and asked < shortest else None
