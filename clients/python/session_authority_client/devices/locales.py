"""Owns the differences between languages other than the texts: numbers, plurals, times, countries.
It is the only module that uses Babel, and it imports Babel late: nothing else of this package needs
Babel.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache, lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,40}(/[A-Za-z0-9_+-]{1,40}){0,3}", re.ASCII)


@cache
def _locale(language: str) -> Any:
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(language, sep="-")
    except (UnknownLocaleError, ValueError):  # an app's own language that Unicode does not know
        return Locale("en")


def direction(language: str) -> str:
    """The direction of the script: "ltr" or "rtl"."""
    return str(_locale(language).text_direction)


def plural_category(count: int, language: str) -> str:
    """The plural category of a count, such as "few"."""
    return str(_locale(language).plural_form(count))


@lru_cache(maxsize=1024)
def number(value: int, language: str) -> str:
    """A whole number, with the digits and separators of the language."""
    from babel.numbers import format_decimal

    return format_decimal(value, locale=_locale(language), numbering_system="default")


@lru_cache(maxsize=1024)
def listed(names: tuple[str, ...], language: str) -> str:
    """Several names in one text: "password and one-time code"."""
    from babel.lists import format_list

    return str(format_list(names, locale=_locale(language)))


@lru_cache(maxsize=1024)
def country(code: str, language: str) -> str:
    """The name of a country by its code of ISO 3166-1. If there is no name, the code."""
    return str(_locale(language).territories.get(code.upper(), code))


def zone_named(name: str) -> tzinfo | None:
    """The time zone with a name of the IANA database. UTC for the empty name, None for any other
    text.
    """
    if name == "":
        return UTC
    if not isinstance(name, str) or not _ZONE.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # "Europe" is a folder
        return None


def exact(moment: datetime, language: str, zone: tzinfo = UTC) -> str:
    """A time in full, with its zone: "November 29, 2026, 5:26 PM UTC"."""
    local = moment.astimezone(zone)
    day, clock = _date(local.date(), language), _time(local.hour, local.minute, language)
    return f"{day}, {clock} {_zone_name(local, language)}"


def _zone_name(local: datetime, language: str) -> str:
    from babel.dates import get_timezone_gmt, get_timezone_name

    if local.tzinfo is UTC:
        return "UTC"
    name = str(get_timezone_name(local, width="short", locale=_locale(language)))
    # A zone without a short name in the language: "+0900", and here "GMT+09:00".
    has_name = not name.startswith(("+", "-"))
    return name if has_name else str(get_timezone_gmt(local, "long", locale=_locale(language)))


@lru_cache(maxsize=4096)
def _time(hour: int, minute: int, language: str) -> str:
    from babel.dates import format_time

    shown = format_time(time(hour, minute), "short", locale=_locale(language))
    return str(shown).replace("\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}")


# The longest unit that fits, with its length in seconds.
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))
_RELATIVE_DAYS = 7


def relative(moment: datetime, now: datetime, language: str, zone: tzinfo = UTC) -> str:
    """How long ago a time was: "2 hours ago". The time must be at least a minute ago. For a time
    that is a week ago or more, its date.
    """
    seconds = int((now - moment).total_seconds())
    if seconds >= _RELATIVE_DAYS * 86_400:
        return _date(moment.astimezone(zone).date(), language)
    unit, length = next((u, s) for u, s in _UNITS if seconds >= s)
    return _ago(unit, seconds // length, language)


@lru_cache(maxsize=1024)
def _date(day: date, language: str) -> str:
    from babel.dates import format_date

    return str(format_date(day, "long", locale=_locale(language)))


@lru_cache(maxsize=4096)
def _ago(unit: str, amount: int, language: str) -> str:
    from babel.dates import format_timedelta

    ago = -timedelta(**{f"{unit}s": amount})
    shown = format_timedelta(ago, threshold=1, add_direction=True, locale=_locale(language))
    return str(shown)
