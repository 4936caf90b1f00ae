"""Owns the database that says where an address is: a file in MaxMind's DB format, which its owner
replaces from time to time.

It never makes a call fail: an address without a valid entry in the file has no place.
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
