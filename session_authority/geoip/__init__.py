"""Finds the city and country of an IP address in a database file in MaxMind's DB format. The
operator replaces the file from time to time.

A look-up never fails. If the file has no valid entry for an address, the place of the address is
empty.
"""

from session_authority.geoip.database import (
    GeoipDatabase,
    GeoipError,
    Places,
    nowhere,
    open_database,
)
from session_authority.geoip.source import GeoipSource

__all__ = [
    "GeoipDatabase",
    "GeoipError",
    "GeoipSource",
    "Places",
    "nowhere",
    "open_database",
]
