"""Reads a database of places into memory.

The file itself is not mapped into memory: if a mapped file is overwritten in place, the process
ends (SIGBUS), or reads a mixture of old and new. The compiled reader needs about ten microseconds
for an address. The reader in Python needs a hundred times as long. The service uses the reader in
Python if there is no compiled reader, or if the system has no `memfd_create`.
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

# The largest City databases on the market have a third of this size.
MAX_DATABASE_BYTES = 1 << 30
# The metadata are at the end of the file (https://maxmind.github.io/MaxMind-DB/).
_METADATA_MARKER = b"\xab\xcd\xefMaxMind.com"
_METADATA_BYTES = 128 << 10
_KINDS_WITH_PLACES = ("city", "country", "enterprise", "location")
_MAX_KIND_CHARACTERS = 100
_HAS_COMPILED_READER = importlib.util.find_spec("maxminddb.extension") is not None
_LAST_SECOND = datetime(9000, 1, 1, tzinfo=UTC).timestamp()

Places = Callable[[IPv4Address | IPv6Address], Place]


class GeoipError(Exception):
    """A database of places can't be used. The message names the file and its fault."""


def nowhere(_: IPv4Address | IPv6Address) -> Place:
    """Returns no place for any address. It is used where no database is set."""
    return NO_PLACE


class GeoipDatabase:
    """A database of places, with its `kind` (such as "GeoLite2-City") and the time at which it was
    built, in seconds since 1970.
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
        """True if the name of the database's kind shows that the database has places."""
        return any(kind in self.kind.lower() for kind in _KINDS_WITH_PLACES)

    def place_of(self, address: IPv4Address | IPv6Address) -> Place:
        """Returns the place of an address, as far as the database has it. Returns NO_PLACE if the
        database has no entry for the address, or a damaged entry.
        """
        try:
            return place_of_record(self._reader.get(str(address)))
        except Exception:  # noqa: BLE001 - a damaged record makes readers raise all kinds
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
    except Exception:  # noqa: BLE001 - damaged metadata make readers raise all kinds
        raise GeoipError(f"{path}: is damaged, or no database in MaxMind's format") from None
    if not isinstance(kind, str) or not isinstance(built_at_seconds, int):
        raise GeoipError(f"{path}: does not say what kind of database it is, and from when")
    if not 0 <= built_at_seconds <= _LAST_SECOND:
        raise GeoipError(f"{path}: was built at a time that never was")
    return GeoipDatabase(reader, cut(cleaned(kind), _MAX_KIND_CHARACTERS), built_at_seconds)


def _read(path: Path) -> bytes | None:
    """Returns the contents of the file, or None if they can't be a database. None also for a file
    of more than 1 GiB, and for anything that is no regular file. Raises OSError.

    The end of a large file is checked before the whole file is read.
    """
    # Without O_NONBLOCK the opening of a pipe would block.
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
    """Returns a reader of the contents. The reader uses a copy in memory, so a change of the file
    has no effect on the reader.
    """
    if not _HAS_COMPILED_READER or not hasattr(os, "memfd_create"):
        return maxminddb.open_database(io.BytesIO(contents), maxminddb.MODE_FD)
    descriptor = os.memfd_create("geoip", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as copy:
        copy.write(contents)
        copy.flush()
        return maxminddb.open_database(f"/proc/self/fd/{descriptor}", maxminddb.MODE_MMAP_EXT)
