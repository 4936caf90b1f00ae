"""The service's limits of idle timeouts, which its refusal of another idle timeout names."""

from __future__ import annotations

from datetime import timedelta

from session_authority_client.errors import InvalidRequest


def idle_limit(
    refusal: InvalidRequest, asked: timedelta | None, *, lengthen: bool
) -> timedelta | None:
    """The idle timeout that the service accepts and that is closest to the requested one, if the
    sign-in was refused for nothing but its idle timeout. Else None. A longer idle timeout than the
    requested one is returned only with `lengthen`.
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
