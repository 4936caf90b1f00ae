"""Reads a database of places into memory, and finds the places of IP addresses in the database.

The file is copied and not mapped into memory. If a mapped file is overwritten in place, SIGBUS may
end the process, or the process may read a mixture of old and new data. The library maxminddb has
two readers. The compiled reader needs about ten microseconds for an address, and the reader in
Python needs a hundred times as long. The service uses the reader in Python if the compiled reader
is not installed, or if the system has no `memfd_create`.
"""

from __future__ import annotations

import importlib.util
import io
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import maxminddb

from session_authority.domain.places import NO_PLACE, Place, place_of_record
from session_authority.domain.text import cleaned, cut

# The largest size of a database that the service reads. The largest City databases on the market
# have a third of this size.
MAX_DATABASE_BYTES = 1 << 30
# The metadata are in the last 128 KiB of a database file, after this marker
# (https://maxmind.github.io/MaxMind-DB/).
_METADATA_MARKER = b"\xab\xcd\xefMaxMind.com"
_METADATA_BYTES = 128 << 10
_KINDS_WITH_PLACES = ("city", "country", "enterprise", "location")
_MAX_KIND_CHARACTERS = 100
_HAS_COMPILED_READER = importlib.util.find_spec("maxminddb.extension") is not None
_LAST_SECOND = datetime(9000, 1, 1, tzinfo=UTC).timestamp()

Places = Callable[[IPv4Address | IPv6Address], Place]


class GeoipError(Exception):
    """Raised if a database of places can't be used. The message names the file and its fault."""


def nowhere(_: IPv4Address | IPv6Address) -> Place:
    """Returns an empty place for any address. This function is used if there is no database."""
    return NO_PLACE


class GeoipDatabase:
    """A database of places. `kind` is the name of the database's kind, such as "GeoLite2-City".
    `built_at_seconds` is the time at which the database was built, in seconds since 1970.
    """

    def __init__(self, reader: Any, kind: str, built_at_seconds: float) -> None:
        self.kind = kind
        self.built_at_seconds = built_at_seconds
        self._reader = reader

    @property
    def built_at(self) -> datetime:
        """The time at which the database was built."""
        return datetime.fromtimestamp(self.built_at_seconds, UTC)

    @property
    def has_places(self) -> bool:
        """True if the name of the database's kind contains a word that stands for places, such as
        "city".
        """
        return any(kind in self.kind.lower() for kind in _KINDS_WITH_PLACES)

    def place_of(self, address: IPv4Address | IPv6Address) -> Place:
        """Returns the place of an address. The city or the country is empty if the database does
        not have it. Returns NO_PLACE if the database has no entry or a damaged entry for the
        address.
        """
        try:
            return place_of_record(self._reader.get(str(address)))
        except Exception:  # noqa: BLE001 - a damaged record may cause any exception
            return NO_PLACE


def open_database(path: Path) -> GeoipDatabase:
    """Reads a database of places from a file. Raises GeoipError if the file can't be read, is no
    regular file, has more than 1 GiB, or is no database in MaxMind's format.
    """
    try:
        contents = _read(path)
    except OSError as error:
        raise GeoipError(f"{path}: can't be read: {error.strerror}") from None
    if contents is None:
        raise GeoipError(
            f"{path}: is no database of places of at most {MAX_DATABASE_BYTES >> 20} MiB"
        )
    try:
        reader = _reader_of(contents)
        metadata = reader.metadata()
        kind, built_at_seconds = metadata.database_type, metadata.build_epoch
    except Exception:  # noqa: BLE001 - damaged metadata may cause any exception
        raise GeoipError(f"{path}: is damaged, or no database in MaxMind's format") from None
    if not isinstance(kind, str) or not isinstance(built_at_seconds, int):
        raise GeoipError(f"{path}: does not say what kind of database it is, and from when")
    if not 0 <= built_at_seconds <= _LAST_SECOND:
        raise GeoipError(f"{path}: was built at a time that never was")
    return GeoipDatabase(reader, cut(cleaned(kind), _MAX_KIND_CHARACTERS), built_at_seconds)


def _read(path: Path) -> bytes | None:
    """Returns the contents of the file. Returns None if the path is no regular file, if the file
    has more than 1 GiB, or if there is no metadata marker near the end of the file. Raises OSError
    if the file can't be read.

    The end of the file is checked before the whole file is read, because the file may be large.
    """
    # Without O_NONBLOCK, `os.open` would block if the path is a named pipe.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_DATABASE_BYTES:
            return None
        file.seek(max(0, status.st_size - _METADATA_BYTES))
        if _METADATA_MARKER not in file.read(_METADATA_BYTES):
            return None
        file.seek(0)
        return file.read(MAX_DATABASE_BYTES)


def _reader_of(contents: bytes) -> Any:
    """Returns a reader of a database with these contents. The reader uses a copy in memory, so a
    later change of the database file has no effect on the reader.
    """
    if not _HAS_COMPILED_READER or not hasattr(os, "memfd_create"):
        return maxminddb.open_database(io.BytesIO(contents), maxminddb.MODE_FD)
    descriptor = os.memfd_create("geoip", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as copy:
        copy.write(contents)
        copy.flush()
        return maxminddb.open_database(f"/proc/self/fd/{descriptor}", maxminddb.MODE_MMAP_EXT)
