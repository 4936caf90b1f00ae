"""Formats values for a language: numbers, plurals, times, names of countries, lists. Only this
module uses Babel. The functions that need Babel import it, and not the module, because an app
without a page of devices works without Babel.
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
    except (UnknownLocaleError, ValueError):  # Unicode may not know an app's own language
        return Locale("en")


def direction(language: str) -> str:
    """Returns the direction of the language's script: "ltr" or "rtl"."""
    return str(_locale(language).text_direction)


def plural_category(count: int, language: str) -> str:
    """Returns the plural category of a count in a language, such as "few" in Polish."""
    return str(_locale(language).plural_form(count))


@lru_cache(maxsize=1024)
def number(value: int, language: str) -> str:
    """Formats a whole number with the digits and separators of the language."""
    from babel.numbers import format_decimal

    return format_decimal(value, locale=_locale(language), numbering_system="default")


@lru_cache(maxsize=1024)
def listed(names: tuple[str, ...], language: str) -> str:
    """Joins several names to one text, such as "password and one-time code" in English."""
    from babel.lists import format_list

    return str(format_list(names, locale=_locale(language)))


@lru_cache(maxsize=1024)
def country(code: str, language: str) -> str:
    """Returns the name of the country with this ISO 3166-1 code. Returns the code if the country
    has no name in the language.
    """
    return str(_locale(language).territories.get(code.upper(), code))


def zone_named(name: str) -> tzinfo | None:
    """Returns the time zone with this name in the IANA database. Returns UTC for an empty name, and
    None if there is no time zone with this name.
    """
    if name == "":
        return UTC
    if not isinstance(name, str) or not _ZONE.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder such as "Europe" is no zone
        return None


def exact(moment: datetime, language: str, zone: tzinfo = UTC) -> str:
    """Formats a full date and time with the zone, such as "November 29, 2026, 5:26 PM UTC" in
    English.
    """
    local = moment.astimezone(zone)
    day, clock = _date(local.date(), language), _time(local.hour, local.minute, language)
    return f"{day}, {clock} {_zone_name(local, language)}"


def _zone_name(local: datetime, language: str) -> str:
    from babel.dates import get_timezone_gmt, get_timezone_name

    if local.tzinfo is UTC:
        return "UTC"
    name = str(get_timezone_name(local, width="short", locale=_locale(language)))
    # For a zone without a short name, Babel returns a text such as "+0900", and this function
    # returns a text such as "GMT+09:00".
    has_name = not name.startswith(("+", "-"))
    return name if has_name else str(get_timezone_gmt(local, "long", locale=_locale(language)))


@lru_cache(maxsize=4096)
def _time(hour: int, minute: int, language: str) -> str:
    from babel.dates import format_time

    shown = format_time(time(hour, minute), "short", locale=_locale(language))
    return str(shown).replace("\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}")


# The units of relative times with their lengths in seconds. The longest unit comes first.
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))
_RELATIVE_DAYS = 7


def relative(moment: datetime, now: datetime, language: str, zone: tzinfo = UTC) -> str:
    """Returns how long ago a time was, such as "2 hours ago". The time must be at least a minute
    ago. If the time is a week ago or more, returns its date.
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
