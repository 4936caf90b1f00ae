"""The service's limit of idle times, which it tells only as it refuses a longer one."""

from __future__ import annotations

import re
from datetime import timedelta

from session_authority_client.errors import InvalidRequest

_RULE = re.compile(r"must be from \d+ to (\d+) seconds", re.ASCII)


def idle_limit(refusal: InvalidRequest, asked: timedelta | None) -> timedelta | None:
    """The longest idle time that the service takes, if a sign-in was refused for nothing but asking
    for a longer one; else None.
    """
    if asked is None or [broken.field for broken in refusal.violations] != ["idle_timeout"]:
        return None
    rule = _RULE.fullmatch(refusal.violations[0].description)
    longest = timedelta(seconds=int(rule[1])) if rule else asked
    return longest if longest < asked else None
