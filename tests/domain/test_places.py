"""The places that are shown, the addresses that have a place, and the precision with which an
address is kept.
"""

from __future__ import annotations

from typing import Any

import pytest

from session_authority.domain.addresses import (
    AddressDetail,
    kept_address,
    placed_address,
    shown_address,
)
from session_authority.domain.clients import Client
from session_authority.domain.places import (
    COUNTRY_CODES,
    NO_PLACE,
    Place,
    place_of_record,
    shown_place,
)
from tests.support.mmdb import place_record

BERLIN = Place("Berlin", "DE")


def test_each_country_of_the_standard_has_a_code_and_so_has_kosovo():
    assert len(COUNTRY_CODES) == 249 + 1


@pytest.mark.parametrize(
    ("city", "code", "shown"),
    [
        ("Berlin", "DE", BERLIN),
        ("Berlin", "de", BERLIN),
        ("  Ber\x00lin\n", " DE ", BERLIN),
        ("São\u202e Paulo", "BR", Place("São Paulo", "BR")),
        ("Berlin", "", Place("Berlin")),
        ("", "DE", Place(country_code="DE")),
        ("Berlin", "Germany", Place("Berlin")),
        ("Berlin", "DEU", Place("Berlin")),
        ("London", "UK", Place("London")),
        ("", "ZZ", NO_PLACE),
        ("", "D\x00", NO_PLACE),
        ("", "ß", NO_PLACE),
        ("", "D" * 10_000_000, NO_PLACE),
        ("x" * 101, "XK", Place("x" * 100, "XK")),
        ("y" * 10_000_000, "", Place("y" * 100)),
    ],
)
def test_a_malformed_place_is_mended_and_never_refused(city: str, code: str, shown: Place):
    assert shown_place(city, code) == shown


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (place_record("Berlin", "DE"), BERLIN),
        ({"country": {"iso_code": "DE"}}, Place(country_code="DE")),
        ({"city": {"names": {"de": "Köln"}}}, NO_PLACE),
        (place_record(["Berlin"], 7), NO_PLACE),
        (place_record(b"Berlin", {"iso_code": "DE"}), NO_PLACE),
        ({"city": "Berlin", "country": "DE"}, NO_PLACE),
        ({"city": {"names": ["en"]}, "country": None}, NO_PLACE),
        (None, NO_PLACE),
        ("Berlin", NO_PLACE),
        ([], NO_PLACE),
    ],
)
def test_a_record_of_any_shape_has_a_place_or_none(record: Any, place: Place):
    assert place_of_record(record) == place


@pytest.mark.parametrize(
    ("address", "placed"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("2002:cb00:7107::1", "203.0.113.7"),
        ("127.0.0.1", None),
        ("10.1.2.3", None),
        ("172.31.255.255", None),
        ("192.168.0.1", None),
        ("169.254.1.1", None),
        ("100.64.0.0", None),
        ("100.127.255.255", None),
        ("100.128.0.0", "100.128.0.0"),
        ("0.0.0.0", None),
        ("255.255.255.255", None),
        ("::ffff:10.0.0.1", None),
        ("2002:0a00:0001::1", None),
        ("::1", None),
        ("::", None),
        ("fe80::1%eth0", None),
        ("fd00::1", None),
        ("ff02::1", None),
        ("", None),
        ("a proxy", None),
    ],
)
def test_an_address_that_may_be_used_anywhere_has_no_place(address: str, placed: str | None):
    found = placed_address(shown_address(address))
    assert (None if found is None else str(found)) == placed


def test_a_network_has_no_place():
    assert placed_address("203.0.113.0/24") is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:7:1:2:3:4:5", "2001:db8:7::/48"),
        ("2002:cb00:7107::1", "2002:cb00:7100::/40"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("2001:db8:7::/48", "2001:db8:7::/48"),
        ("a later form", ""),
        ("", ""),
    ],
)
def test_an_address_is_kept_as_its_network(address: str, network: str):
    shown = shown_address(address) or address
    assert kept_address(shown, AddressDetail.NETWORK) == network
    assert kept_address(shown, AddressDetail.FULL) == shown
    assert kept_address(shown, AddressDetail.NONE) == ""


@pytest.mark.parametrize(
    ("newer", "place"),
    [
        (Client(), BERLIN),
        (Client(user_agent="curl/8"), BERLIN),
        (Client(ip_address="203.0.113.7"), NO_PLACE),
        (Client(ip_address="203.0.113.7", place=Place("Rome", "IT")), Place("Rome", "IT")),
        (Client(place=Place(country_code="IT")), Place(country_code="IT")),
    ],
)
def test_a_place_goes_with_its_address(newer: Client, place: Place):
    assert Client(ip_address="2001:db8::7", place=BERLIN).updated_by(newer).place == place
