"""Leaves out of an image what its packages bring and no command of it reads.

It is run as scripts/prune_packages.py FOLDER, the folder of the installed packages. It is two
fifths of their size:

- Babel's data of 300 languages. The page of devices has texts in some, and is in English for
  readers of all others. So the data of those with texts stay, for all their regions; what all
  languages inherit stays, too.
- Pygments's knowledge of 500 programming languages. Rich shows a traceback in Python.
- What compiled modules have for debuggers and linkers. It follows what is loaded, so a module is
  cut there: that needs no `strip`, which a slim base lacks.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from pathlib import Path

LEXERS = {"__init__", "_mapping", "python"}

# How a file in the format ELF begins, of 64 bits and little-endian.
ELF = b"\x7fELF\x02\x01"


def languages_without_texts(packages: Path) -> list[Path]:
    """Babel's files of the languages in which the page of devices has no texts."""
    texts = packages / "session_authority_client" / "devices" / "messages"
    kept = {"root", *(path.stem for path in texts.glob("*.json"))}
    data = _some((packages / "babel" / "locale-data").glob("*.dat"))
    return [path for path in data if path.stem.partition("_")[0] not in kept]


def lexers_of_no_use(packages: Path) -> list[Path]:
    """Pygments's files of programming languages other than Python, and what is compiled of them."""
    lexers = _some((packages / "pygments" / "lexers").rglob("*.py*"))
    return [path for path in lexers if path.name.partition(".")[0] not in LEXERS]


def loadable(module: bytes) -> bytes:
    """A compiled module up to the end of what is loaded of it."""
    if not module.startswith(ELF):
        return module
    # The header says where segments are, which are loaded, and sections, which are not.
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
    """What was found. Ends the program if that is nothing: then the packages changed."""
    return list(found) or sys.exit("The packages have other files than is known here.")


def main() -> None:
    """Removes the files, and cuts the modules."""
    [folder] = map(Path, sys.argv[1:])
    for path in (*languages_without_texts(folder), *lexers_of_no_use(folder)):
        path.unlink()
    for path in folder.rglob("*.so*"):
        path.write_bytes(loadable(path.read_bytes()))


if __name__ == "__main__":
    main()
