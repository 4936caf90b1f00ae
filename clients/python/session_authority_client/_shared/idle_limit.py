"""Reads the shortest and the longest idle timeout that the service accepts. The service names both
limits when it refuses a sign-in because of its idle timeout.
"""

from __future__ import annotations

from datetime import timedelta

from session_authority_client.errors import InvalidRequest


def idle_limit(
    refusal: InvalidRequest, asked: timedelta | None, *, lengthen: bool
) -> timedelta | None:
    """Returns the idle timeout that the service accepts and that is closest to the requested idle
    timeout, `asked`. If `asked` is too long, returns the service's maximum. If `asked` is too short
    and `lengthen` is True, returns the service's minimum.

    Returns None if no idle timeout was requested, or if the idle timeout is not the only field that
    the service refused. Also returns None if the refusal does not name the limits, or if `asked` is
    too short and `lengthen` is False.
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
