"""Parses lengths of time as people write them: `90s`, `15m`, `12h`, `30d`, `250ms`, or ISO 8601."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, TypeAdapter, ValidationError

_SHORT = re.compile(r"(\d+)\s*(ms|s|m|h|d)", re.ASCII)
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_ISO = TypeAdapter(timedelta)


def parse_duration(value: object) -> object:
    """Parses a length of time, such as `90s`, or `PT15M` and `P30D` in ISO 8601. Returns a
    timedelta unchanged. Raises ValueError for a value that is no length of time.
    """
    if not isinstance(value, str):
        if isinstance(value, timedelta):
            return value
        raise ValueError("must be a duration with a unit, like 90s, 15m, 12h or 30d")
    short = _SHORT.fullmatch(value.strip())
    if short is not None:
        try:
            return timedelta(**{_UNITS[short[2]]: int(short[1])})
        except OverflowError:
            raise ValueError("is too long") from None
    if value.strip().upper().startswith("P"):
        try:
            return _ISO.validate_python(value.strip().upper())
        except ValidationError:
            pass
    raise ValueError("must be a duration, like 90s, 15m, 12h, 30d or ISO 8601's PT15M")


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
