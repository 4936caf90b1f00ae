"""Databases of places: sound ones, and damaged ones, on which no call may fail."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from session_authority.domain.places import NO_PLACE, Place
from session_authority.geoip import GeoipDatabase, GeoipError, database, open_database
from tests.support.mmdb import MARKER, Pointer, Raw, Uint16, Uint64, encoded, mmdb, place_record

BERLIN = Place("Berlin", "DE")
ADDRESS = "203.0.113.7"
NETWORK = "203.0.113.0/24"


@pytest.fixture(params=[True, False], ids=["compiled", "python"], autouse=True)
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both readers: the compiled one, and the reader of a machine without it."""
    assert database._HAS_COMPILED_READER, "the reader that production has"
    monkeypatch.setattr(database, "_HAS_COMPILED_READER", request.param)
    return bool(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "places.mmdb"


def opened(path: Path, contents: bytes) -> GeoipDatabase:
    path.write_bytes(contents)
    return open_database(path)


def place_in(found: GeoipDatabase, address: str = ADDRESS) -> Place:
    return found.place_of(ip_address(address))


@pytest.mark.parametrize("kind", ["GeoLite2-City", "DBIP-Country-Lite"])
def test_a_sound_database_is_read(path: Path, kind: str):
    records = {NETWORK: place_record("Berlin", "DE"), "2001:db8::/32": place_record("Rome", "IT")}
    found = opened(path, mmdb(records, kind=kind, built_at_seconds=1_800_000_000))
    assert (found.kind, found.has_places) == (kind, True)
    assert f"{found.built_at:%Y-%m-%d}" == "2027-01-15"
    assert place_in(found) == BERLIN
    assert place_in(found, "2001:db8:1::7") == Place("Rome", "IT")
    assert place_in(found, "198.51.100.7") == place_in(found, "2001:dead::1") == NO_PLACE


def test_an_address_of_a_missing_family_has_no_place(path: Path):
    found = opened(path, mmdb({NETWORK: place_record("Berlin", "DE")}, ip_version=4))
    assert (place_in(found), place_in(found, "2001:db8::7")) == (BERLIN, NO_PLACE)


def test_a_database_of_another_kind_has_no_places(path: Path):
    found = opened(path, mmdb({NETWORK: {"autonomous_system_number": 7}}, kind="GeoLite2-ASN"))
    assert (found.has_places, place_in(found)) == (False, NO_PLACE)


def test_a_file_that_is_overwritten_in_place_changes_nothing(path: Path):
    found = opened(path, mmdb({NETWORK: place_record("Berlin", "DE")}))
    os.truncate(path, 0)
    assert place_in(found) == BERLIN
    path.write_bytes(b"\xff" * 4096)
    assert place_in(found) == BERLIN


CYCLE = {"city": Pointer(0), "country": Pointer(0)}
DEEP = Raw(b"\xe1\x44city" * 2000 + b"\xe0")


@pytest.mark.parametrize(
    "record",
    [
        CYCLE,
        DEEP,
        {"city": [Pointer(0)] * 60_000},
        {"city": {"names": {"en": Pointer(1 << 31)}}},
        {"city": {"names": Pointer(1)}},
        place_record(7, True),
        place_record({"en": "Berlin"}, ["DE"]),
        [place_record("Berlin", "DE")],
        "Berlin",
        place_record("\x00\x1b\u202e", "\x00\x00"),
        place_record("x" * 10_000_000, "DE"),
    ],
    ids=range(11),
)
def test_a_hostile_record_has_no_place(path: Path, record: Any):
    found = opened(path, mmdb({NETWORK: record, "198.51.100.0/24": place_record("Berlin", "DE")}))
    assert place_in(found) == NO_PLACE


def test_a_name_is_cleaned_and_cut(path: Path):
    name = "Ber\x1b[31mlin\r\n" + "\u202ey" * 3000
    found = opened(path, mmdb({NETWORK: place_record(name, "de")}))
    place = place_in(found)
    assert place.city.startswith("Ber[31mlin yyy")
    assert (len(place.city), place.country_code) == (100, "DE")


def test_text_that_is_not_utf_8_is_left_out(path: Path):
    contents = mmdb({NETWORK: place_record("Berlin", "DE")})
    assert place_in(opened(path, contents.replace(b"Berlin", b"\xff\xfelin"))) == NO_PLACE


def test_a_tree_that_leads_nowhere_gives_no_place(path: Path):
    contents = mmdb({NETWORK: place_record("Berlin", "DE")})
    tree = 8 * 120
    for filler in (b"\xff", b"\x00", b"\x7f"):
        assert place_in(opened(path, filler * tree + contents[tree:])) == NO_PLACE


def test_a_database_that_is_cut_anywhere_fails_no_call(path: Path):
    contents = mmdb({NETWORK: place_record("Berlin", "DE")})
    for size in range(0, len(contents), 19):
        with pytest.raises(GeoipError, match=f"^{path}: "):
            opened(path, contents[:size])


def test_a_database_with_one_wrong_byte_fails_no_call(path: Path):
    contents = mmdb({NETWORK: place_record("Berlin", "DE")})
    for at in range(0, len(contents), 11):
        for wrong in (0, 0xFF, contents[at] ^ 1):
            try:
                found = opened(path, contents[:at] + bytes([wrong]) + contents[at + 1 :])
            except GeoipError:
                continue
            assert len(place_in(found).city) <= 100


@pytest.mark.parametrize(
    "metadata",
    [
        {"database_type": 7},
        {"database_type": ["City"]},
        {"build_epoch": "today"},
        {"build_epoch": Uint64((1 << 64) - 1)},
        {"node_count": 1 << 30},
        {"node_count": "many"},
        {"record_size": Uint16(7)},
        {"record_size": Uint16(0)},
        {"binary_format_major_version": Uint16(9), "node_count": -1 & 0xFFFFFFFF},
    ],
    ids=range(9),
)
def test_metadata_that_make_no_sense_are_refused(path: Path, metadata: dict[str, Any]):
    with pytest.raises(GeoipError, match=f"^{path}: "):
        opened(path, mmdb({NETWORK: place_record("Berlin", "DE")}, metadata=metadata))


@pytest.mark.parametrize(
    "contents",
    [b"", b"\x1f\x8b\x08" + bytes(64), MARKER, MARKER + encoded([1, 2]), MARKER + encoded({})],
    ids=range(5),
)
def test_a_file_of_another_format_is_refused(path: Path, contents: bytes):
    with pytest.raises(GeoipError, match=f"^{path}: is "):
        opened(path, contents)


def test_a_path_that_is_no_file_is_refused(path: Path, tmp_path: Path):
    with pytest.raises(GeoipError, match="can't be read: No such file or directory"):
        open_database(path)
    os.mkfifo(path)
    with pytest.raises(GeoipError, match="is no database"):
        open_database(path)
    with pytest.raises(GeoipError, match=r"can't be read|is no database"):
        open_database(tmp_path)


def test_a_file_that_is_too_large_is_not_read(path: Path):
    with path.open("wb") as file:
        file.truncate(database.MAX_DATABASE_BYTES + 1)
    with pytest.raises(GeoipError, match="of at most 1024 MiB"):
        open_database(path)
