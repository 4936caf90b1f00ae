"""Decodes the server's replies. The driver may return the same reply in several forms, for example
as a list or as a mapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any


def fields_of(reply: Any) -> Mapping[Any, Any]:
    """Returns the names and values in a reply that describes a hash, a stream entry or a consumer
    group. The reply may be a mapping, a list of alternating names and values, or a list of pairs.
    If the reply is None, returns an empty mapping.
    """
    if isinstance(reply, Mapping):
        return reply
    if not reply:
        return {}
    if isinstance(reply[0], list):
        return dict(reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def info_fields(reply: Any) -> Mapping[str, str]:
    """Returns the names and values in a reply to the command INFO."""
    if isinstance(reply, Mapping):
        return {name: str(value) for name, value in reply.items()}
    lines = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, _, value in lines}


def time_of(reply: Sequence[Any]) -> datetime:
    """Returns the time in a reply to the command TIME. The reply has two numbers: the seconds since
    1970, and the microseconds of the present second.
    """
    seconds, microseconds = reply
    return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(microseconds))
