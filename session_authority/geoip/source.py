"""Keeps the present database of places in memory, and reads the database file again when the file
has changed.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from session_authority.domain.places import Place
from session_authority.geoip.database import GeoipDatabase, GeoipError, open_database
from session_authority.runtime.files import Reread


class GeoipSource(Reread[GeoipDatabase]):
    """The database of places in a file. `refresh` reads the file again if the file has changed. The
    constructor and `refresh` raise GeoipError if the file can't be read or has no usable database.
    """

    def __init__(self, path: Path) -> None:
        super().__init__([path], lambda: open_database(path), GeoipError)

    def place_of(self, address: IPv4Address | IPv6Address) -> Place:
        """Returns the place of the address according to the present database."""
        return self.current.place_of(address)

    def is_readable(self) -> bool:
        """Returns True if the database file can be opened. The file is not read, because the file
        may be large.
        """
        try:
            for path in self._files():
                path.open("rb").close()
        except OSError:
            return False
        return True
