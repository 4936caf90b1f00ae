"""Writes small databases in MaxMind's DB format (version 2.0), sound ones and broken ones.

The format: https://maxmind.github.io/MaxMind-DB/. Records have the form of City databases.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any

MARKER = b"\xab\xcd\xefMaxMind.com"
_SEPARATOR = bytes(16)
_RECORD_BYTES = 4


@dataclass(frozen=True)
class Uint16:
    """A number that the format stores in 16 bits."""

    value: int


@dataclass(frozen=True)
class Uint64:
    """A number that the format stores in 64 bits."""

    value: int


@dataclass(frozen=True)
class Pointer:
    """A pointer to an offset of the data section, valid or not."""

    offset: int


@dataclass(frozen=True)
class Raw:
    """Bytes of the data section, copied unchanged."""

    data: bytes


def place_record(city: Any, country_code: Any) -> dict[str, Any]:
    """The fields of a City database's record that describe a place."""
    return {
        "city": {"geoname_id": 2643743, "names": {"de": f"{city} auf Deutsch", "en": city}},
        "country": {"iso_code": country_code, "names": {"en": "A country"}},
        "location": {"accuracy_radius": 10, "latitude": 51.5, "time_zone": "Europe/London"},
        "subdivisions": [{"iso_code": "ENG", "names": {"en": "A part"}}],
    }


def mmdb(
    records: Mapping[str, Any],
    *,
    kind: str = "Test-City",
    ip_version: int = 6,
    built_at_seconds: int = 1_790_000_000,
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """A database that has a record for each network. `metadata` replaces parts of the usual
    metadata.
    """
    data, offsets = b"", []
    for record in records.values():
        offsets.append(len(data))
        data += encoded(record)
    nodes = _tree(list(records), ip_version)
    own = {
        "binary_format_major_version": Uint16(2),
        "binary_format_minor_version": Uint16(0),
        "build_epoch": Uint64(built_at_seconds),
        "database_type": kind,
        "description": {"en": "Made by a test"},
        "ip_version": Uint16(ip_version),
        "languages": ["de", "en"],
        "node_count": len(nodes),
        "record_size": Uint16(8 * _RECORD_BYTES),
    }

    def pointed(target: int | None) -> int:
        if target is None:
            return len(nodes)
        return target if target >= 0 else len(nodes) + len(_SEPARATOR) + offsets[-1 - target]

    tree = b"".join(struct.pack(">II", *map(pointed, node)) for node in nodes)
    return tree + _SEPARATOR + data + MARKER + encoded({**own, **(metadata or {})})


def _tree(networks: Sequence[str], ip_version: int) -> list[list[int | None]]:
    """Nodes of two branches each: another node, a record (-1, -2, ...), or nothing."""
    nodes: list[list[int | None]] = [[None, None]]
    for index, text in enumerate(networks):
        network = ip_network(text)
        bits, shift = network.prefixlen, network.max_prefixlen
        if isinstance(network, IPv4Network) and ip_version == 6:
            bits += 96  # IPv4 is at ::/96.
        value = int(network.network_address)
        width = shift if ip_version == 4 else 128
        node = 0
        for depth in range(bits):
            bit = value >> (width - 1 - depth) & 1
            if depth == bits - 1:
                nodes[node][bit] = -1 - index
                break
            below = nodes[node][bit]
            if below is None or below < 0:
                nodes.append([below, below])
                below = nodes[node][bit] = len(nodes) - 1
            node = below
    return nodes


def encoded(value: Any) -> bytes:
    """A value of the data section."""
    match value:
        case Pointer(offset):
            return bytes([1 << 5 | 3 << 3]) + struct.pack(">I", offset)
        case Raw(data):
            return data
        case bool():
            return _head(14, int(value))
        case str():
            text = value.encode()
            return _head(2, len(text)) + text
        case bytes():
            return _head(4, len(value)) + value
        case float():
            return _head(3, 8) + struct.pack(">d", value)
        case Uint16(number):
            return _number(5, number)
        case Uint64(number):
            return _number(9, number)
        case int():
            return _number(6, value)
        case dict():
            parts = (encoded(part) for pair in value.items() for part in pair)
            return _head(7, len(value)) + b"".join(parts)
        case list():
            return _head(11, len(value)) + b"".join(map(encoded, value))
    raise TypeError(type(value))


def _number(kind: int, value: int) -> bytes:
    digits = value.to_bytes((value.bit_length() + 7) // 8)
    return _head(kind, len(digits)) + digits


def _head(kind: int, size: int) -> bytes:
    """The control bytes: the kind, and the size."""
    more = b""
    if size >= 65_821:
        size, more = 31, (size - 65_821).to_bytes(3)
    elif size >= 285:
        size, more = 30, (size - 285).to_bytes(2)
    elif size >= 29:
        size, more = 29, (size - 29).to_bytes(1)
    if kind > 7:
        return bytes([size, kind - 7]) + more
    return bytes([kind << 5 | size]) + more
