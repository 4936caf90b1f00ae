"""Makes a PNG small, as pngquant does: each pixel becomes a number in a palette."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_COLORS = 256
_Color = bytes


def with_palette(png: bytes) -> bytes:
    """The same picture with a palette. Colors beyond the palette become the nearest colors in it.

    The picture must have 8 bits a channel, no interlacing and no transparent part.
    """
    chunks = list(_chunks(png))
    width, height, depth, kind, *_, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, interlaced) == (8, 0)
    size = {2: 3, 6: 4}[kind]
    data = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    rows = list(_unfiltered(data, width * size, height, size))
    pixels = [[bytes(row[at : at + 3]) for at in range(0, len(row), size)] for row in rows]
    found = Counter(color for row in pixels for color in row)
    palette = [color for color, _ in found.most_common(_MAX_COLORS)]
    number = {color: at for at, color in enumerate(palette)}
    for color in found:
        if color not in number:
            number[color] = min(range(len(palette)), key=lambda at: _distance(palette[at], color))
    lines = b"".join(b"\0" + bytes([number[color] for color in row]) for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return _SIGNATURE + b"".join(
        _chunk(name, body)
        for name, body in (
            (b"IHDR", header),
            (b"PLTE", b"".join(palette)),
            (b"IDAT", zlib.compress(lines, 9)),
            (b"IEND", b""),
        )
    )


def _distance(one: _Color, other: _Color) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    assert png.startswith(_SIGNATURE)
    at = len(_SIGNATURE)
    while at < len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        yield name, png[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _unfiltered(data: bytes, stride: int, height: int, size: int) -> Iterator[bytearray]:
    """The rows of pixels, with their filters undone (https://www.w3.org/TR/png-3/#9Filters)."""
    before = bytearray(stride)
    for number in range(height):
        start = number * (stride + 1)
        row = bytearray(data[start + 1 : start + 1 + stride])
        _unfilter(data[start], row, before, size)
        yield row
        before = row


def _unfilter(kind: int, row: bytearray, above: bytearray, size: int) -> None:
    for at in range(len(row)):
        left = row[at - size] if at >= size else 0
        corner = above[at - size] if at >= size else 0
        predicted = (
            0,
            left,
            above[at],
            (left + above[at]) // 2,
            _paeth(left, above[at], corner) if kind == 4 else 0,
        )[kind]
        row[at] = (row[at] + predicted) & 0xFF


def _paeth(left: int, above: int, corner: int) -> int:
    estimate = left + above - corner
    return min((left, above, corner), key=lambda value: abs(estimate - value))
