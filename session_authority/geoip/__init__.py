"""Looks up where an IP address is, in a database file in MaxMind's DB format. The operator replaces
the file from time to time.

This package never makes a call fail: an address without a valid entry in the file has no place.
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
