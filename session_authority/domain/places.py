"""Defines the place of an end user, which is a city and a country.

This module checks places, and reads places from the records of a GeoIP database. A place is only
shown to people, so no place is refused: parts that can't be shown are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from session_authority.domain.text import cleaned, cut

MAX_CITY_CHARACTERS = 100
# The language in which cities are shown. Databases have English names for nearly all cities.
_LANGUAGE = "en"
# The country codes of ISO 3166-1 alpha-2, and XK, which software uses for Kosovo.
COUNTRY_CODES = frozenset(
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR"
    " BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ"
    " EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW"
    " GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY"
    " KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV"
    " MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY"
    " QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG"
    " TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA"
    " ZM ZW".split()
)


@dataclass(frozen=True, slots=True)
class Place:
    """A city, by its English name, and a country, by its code. Unknown parts are empty."""

    city: str = ""
    country_code: str = ""


NO_PLACE = Place()


def shown_place(city: str, country_code: str) -> Place:
    """Returns the place in a form that can be shown. The city is cleaned, and cut at 100
    characters. The country code is returned in upper case if it is in `COUNTRY_CODES`, and is left
    out if it is not.
    """
    # Only ASCII texts are read, because `upper` turns some other letters into two letters: "ß"
    # would become "SS", the code of South Sudan.
    code = country_code.strip().upper() if country_code.isascii() else ""
    return Place(cut(cleaned(city), MAX_CITY_CHARACTERS), code if code in COUNTRY_CODES else "")


def place_of_record(record: object) -> Place:
    """Returns the place in a record of a GeoIP database of cities or countries. The record may have
    any contents.
    """
    city = _at(record, "city", "names", _LANGUAGE)
    return shown_place(city, _at(record, "country", "iso_code"))


def _at(record: object, *path: str) -> str:
    """Returns the text at the end of a path through nested mappings. Returns an empty text if the
    path does not lead to a text.
    """
    for name in path:
        if not isinstance(record, Mapping):
            return ""
        record = record.get(name)
    return record if isinstance(record, str) else ""
