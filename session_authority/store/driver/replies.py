"""Reads the server's replies, in every form in which the driver returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any


def fields_of(reply: Any) -> Mapping[Any, Any]:
    """Returns the names and values of a hash, an entry or a consumer group. The reply may be a
    mapping, a list of alternating names and values, or a list of pairs. None counts as empty.
    """
    if isinstance(reply, Mapping):
        return reply
    if not reply:
        return {}
    if isinstance(reply[0], list):
        return dict(reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def info_fields(reply: Any) -> Mapping[str, str]:
    """Returns the fields of a reply to INFO."""
    if isinstance(reply, Mapping):
        return {name: str(value) for name, value in reply.items()}
    lines = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, _, value in lines}


def time_of(reply: Sequence[Any]) -> datetime:
    """Returns the time in a reply to TIME, which has seconds and microseconds."""
    seconds, microseconds = reply
    return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(microseconds))
