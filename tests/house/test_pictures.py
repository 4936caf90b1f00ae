"""The pictures of "My devices" exist, are small, and are as `make screenshots` writes them."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest

from scripts.palette_png import with_palette

ROOT = Path(__file__).parents[2]
SOURCE = re.compile(r'<img src="([^"]+)"')
PAGE = ROOT / "docs" / "my_devices.md"
PICTURES = [PAGE.parent / name for name in SOURCE.findall(PAGE.read_text("utf-8"))]
MAX_BYTES = 60_000
WIDTH, HEIGHT = 7, 5
_CHANNELS = 3


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(header: bytes, data: bytes) -> bytes:
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, body) for name, body in chunks)


def _filtered(rows: list[bytes], kind: int) -> bytes:
    """Rows of pixels as an encoder filters them: https://www.w3.org/TR/png-3/#9Filters."""
    data, above = b"", bytes(WIDTH * _CHANNELS)
    for row in rows:
        line = bytearray()
        for at, value in enumerate(row):
            left, corner = (
                (row[at - _CHANNELS], above[at - _CHANNELS]) if at >= _CHANNELS else (0, 0)
            )
            guess = left + above[at] - corner
            nearest = min((left, above[at], corner), key=lambda each: abs(guess - each))
            by = (0, left, above[at], (left + above[at]) // 2, nearest)[kind]
            line.append((value - by) % 256)
        data, above = data + bytes([kind]) + line, row
    return data


def _colors(png: bytes) -> list[list[bytes]]:
    """The pixels of a PNG with a palette and without filters."""
    bodies, at = {}, 8
    while at < len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        bodies[name] = png[at + 8 : at + 8 + length]
        at += 12 + length
    palette, lines = bodies[b"PLTE"], zlib.decompress(bodies[b"IDAT"])
    rows = [lines[at + 1 : at + 1 + WIDTH] for at in range(0, len(lines), WIDTH + 1)]
    return [[palette[3 * number : 3 * number + 3] for number in row] for row in rows]


@pytest.mark.parametrize("kind", range(5))
def test_a_palette_changes_no_pixel(kind: int):
    rows = [
        bytes((x * 37 + y * 91 + x * y * 13) % 256 for x in range(WIDTH * _CHANNELS))
        for y in range(HEIGHT)
    ]
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    found = _colors(with_palette(_png(header, _filtered(rows, kind))))
    wanted = [[row[at : at + 3] for at in range(0, len(row), 3)] for row in rows]
    assert found == wanted


def test_the_readme_shows_one_of_the_pictures():
    [shown] = SOURCE.findall((ROOT / "README.md").read_text("utf-8"))
    assert ROOT / shown in PICTURES


def test_the_page_is_shown_light_dark_and_on_a_phone():
    assert {path.stem for path in PICTURES} == {
        "devices-light",
        "devices-dark",
        "devices-phone",
    }
    for path in PICTURES:
        picture = path.read_bytes()
        assert len(picture) <= MAX_BYTES
        assert picture[24:26] == b"\x08\x03", "it has no palette"
