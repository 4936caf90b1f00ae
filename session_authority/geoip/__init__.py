"""Owns the database that says where an address is: a file in MaxMind's DB format, which its owner
replaces from time to time.

It refuses to fail a call: an address of which the file says nothing, or nonsense, has no place.
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
