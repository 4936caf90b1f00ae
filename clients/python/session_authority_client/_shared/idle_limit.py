"""The service's limits of idle times, which it tells as it refuses another one."""

from __future__ import annotations

from datetime import timedelta

from session_authority_client.errors import InvalidRequest


def idle_limit(
    refusal: InvalidRequest, asked: timedelta | None, *, lengthen: bool
) -> timedelta | None:
    """The idle time closest to the one asked for that the service takes, if a sign-in was refused
    for nothing but its idle time; else None. A longer one takes its place only with `lengthen`.
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
