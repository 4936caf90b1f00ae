"""What is known about a client is stored with it: a list of devices parses no user agent."""

from __future__ import annotations

import pytest

from session_authority.domain.appearances.appearance import appearance, read_appearance
from session_authority.domain.appearances.hints import NO_HINTS, Brand, ClientHints, clean_hints
from session_authority.domain.clients import Appearance, Client, FormFactor
from session_authority.internal.v1 import records_pb2
from session_authority.store.client_records import client_of, client_record
from session_authority.store.codec import decode_device, encode_device
from tests.store.samples import device

AGENT = "Mozilla/5.0 (Linux; Android 10; K) Chrome/148.0.0.0 Mobile Safari/537.36"
HINTS = ClientHints(
    brands=(Brand("Google Chrome", "148.0.7778.96"), Brand("Not.A/Brand", "8")),
    platform="Android",
    platform_version="16.0.0",
    model="Pixel 10 Pro",
    mobile=True,
    form_factors=("Mobile",),
)
PHONE = Client("192.0.2.7", AGENT, hints=HINTS)
SHOWN = Appearance(
    "Android 16", "Chrome 148", FormFactor.PHONE, "Pixel 10 Pro", "Chrome 148 on Pixel 10 Pro"
)


@pytest.mark.parametrize(
    "client",
    [
        PHONE,
        Client(),
        Client(user_agent="curl/8.5.0"),
        Client(hints=ClientHints(mobile=False)),
        Client(hints=ClientHints(platform="Windows")),
    ],
    ids=["phone", "nothing", "agent", "no phone", "platform"],
)
def test_client_details_are_read_back(client: Client) -> None:
    stored = client_of(client_record(client))
    assert stored == client
    assert appearance(stored) == appearance(client)


def test_the_longest_client_hints_are_stored_small() -> None:
    fat = "𝕏" * 1000 + "X" * 1000
    hints = clean_hints(
        brands=[Brand(fat, fat)] * 1000,
        platform=fat,
        platform_version=fat,
        model=fat,
        mobile=False,
        form_factors=[fat] * 1000,
    )
    assert client_record(Client(hints=hints)).ByteSize() <= 800


def test_stored_details_are_shown_without_parsing_a_user_agent() -> None:
    raw = encode_device(device(last_client=PHONE, display_name=""))
    read_appearance.cache_clear()
    record = decode_device(raw)
    assert appearance(record.last_client) == SHOWN
    assert record.shown_name() == SHOWN.name
    assert encode_device(record) == raw
    assert read_appearance.cache_info().misses == 0


def test_a_record_of_an_earlier_version_is_parsed_once_when_it_is_shown() -> None:
    old = records_pb2.ClientRecord(ip_address="192.0.2.7", user_agent=AGENT)
    read_appearance.cache_clear()
    client = client_of(old)
    assert client.hints == NO_HINTS
    assert read_appearance.cache_info().misses == 0
    assert {appearance(client).name for _ in range(3)} == {"Chrome 148 on Android"}
    assert read_appearance.cache_info().misses == 1


def test_new_client_details_are_parsed_again() -> None:
    stored = client_of(client_record(PHONE))
    assert stored.updated_by(Client("192.0.2.8")).appearance == SHOWN
    newer = stored.updated_by(Client(user_agent="curl/8.5.0"))
    assert appearance(newer).name == "curl 8"


def test_a_kind_of_a_later_version_is_unknown() -> None:
    record = client_record(PHONE)
    record.appearance.form_factor = "car"
    looks = client_of(record).appearance
    assert looks is not None
    assert looks.form_factor is FormFactor.UNKNOWN
