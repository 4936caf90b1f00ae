"""Removes from an image the contents of packages that no command of the image reads.

It is run as scripts/prune_packages.py FOLDER, the folder of the installed packages. The removed
contents are two fifths of the packages' size:

- Babel's data of 300 languages. The page of devices has texts in some languages, and shows English
  to the readers of all other languages. The data of the languages with texts stay, for all regions.
  The data that all languages inherit stay, too.
- Pygments's knowledge of 500 programming languages. Rich shows tracebacks in Python only.
- The parts of compiled modules for debuggers and linkers. These parts follow the parts that are
  loaded, so a module is cut after its last loaded part. This needs no `strip`, which a slim base
  image lacks.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from pathlib import Path

LEXERS = {"__init__", "_mapping", "python"}

# The first bytes of an ELF file of 64 bits in little-endian order.
ELF = b"\x7fELF\x02\x01"


def languages_without_texts(packages: Path) -> list[Path]:
    """Babel's files of languages in which the page of devices has no texts."""
    texts = packages / "session_authority_client" / "devices" / "messages"
    kept = {"root", *(path.stem for path in texts.glob("*.json"))}
    data = _some((packages / "babel" / "locale-data").glob("*.dat"))
    return [path for path in data if path.stem.partition("_")[0] not in kept]


def lexers_of_no_use(packages: Path) -> list[Path]:
    """Pygments's files of programming languages other than Python, and their compiled forms."""
    lexers = _some((packages / "pygments" / "lexers").rglob("*.py*"))
    return [path for path in lexers if path.name.partition(".")[0] not in LEXERS]


def loadable(module: bytes) -> bytes:
    """A compiled module without the bytes behind its last loaded part."""
    if not module.startswith(ELF):
        return module
    # The header of the file says where the segments are, and where the sections are. Only segments
    # are loaded.
    [offset] = struct.unpack_from("<Q", module, 32)
    size, count = struct.unpack_from("<HH", module, 54)
    ends = [offset + size * count]
    for segment in range(offset, offset + size * count, size):
        [begin] = struct.unpack_from("<Q", module, segment + 8)
        [length] = struct.unpack_from("<Q", module, segment + 32)
        ends.append(begin + length)
    cut = bytearray(module[: max(ends)])
    struct.pack_into("<Q", cut, 40, 0)
    struct.pack_into("<HH", cut, 60, 0, 0)
    return bytes(cut)


def _some(found: Iterable[Path]) -> list[Path]:
    """The files that were found. Ends the program if there are none."""
    return list(found) or sys.exit("The packages lack files that this script removes.")


def main() -> None:
    """Removes the files that are not needed, and cuts the compiled modules."""
    [folder] = map(Path, sys.argv[1:])
    for path in (*languages_without_texts(folder), *lexers_of_no_use(folder)):
        path.unlink()
    for path in folder.rglob("*.so*"):
        path.write_bytes(loadable(path.read_bytes()))


if __name__ == "__main__":
    main()
