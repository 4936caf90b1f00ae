"""User agents are packed by phrases, whose numbers stay in records for ever."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_authority.domain.appearances.appearance import appearance, read_appearance
from session_authority.domain.appearances.hints import NO_HINTS, ClientHints
from session_authority.domain.clients import Appearance, Client, FormFactor
from session_authority.domain.fields import MAX_USER_AGENT_BYTES
from session_authority.internal.v1 import records_pb2
from session_authority.store import client_records
from session_authority.store.client_records import (
    client_beside,
    client_of,
    client_record,
    packed_client,
)
from session_authority.store.codec import decode_device, encode_device
from session_authority.store.phrases import (
    MAX_PACKED_BYTES,
    PHRASES,
    _pack,
    _unpack,
    pack,
    unpack,
)
from tests.appearances import corpus
from tests.store.samples import device

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/148.0.0.0 Safari/537.36"
)
MAC = ClientHints(platform="macOS")
WINDOWS_11 = ClientHints(platform="Windows", platform_version="15.0.0")
# The bytes that the first version with packed agents wrote. Every later version must read them.
PACKED = b"\x80148\x98", b"\xcb\xd6148\xc6\n"
AGENTS = sorted({line.user_agent for line in corpus.lines("agents.txt")})


@given(st.lists(st.sampled_from(PHRASES) | st.text(max_size=8)).map("".join))
def test_a_text_is_read_back_or_is_not_packed(text: str) -> None:
    packed = pack(text)
    if not text.isascii() or len(text) > MAX_USER_AGENT_BYTES:
        assert packed is None
    else:
        assert packed is not None
        assert unpack(packed) == text
        assert len(packed) <= len(text)


def test_forged_records_take_little_memory() -> None:
    """Redis may hold any bytes; the records of the service are much shorter than these."""
    caches = (
        _pack,
        _unpack,
        client_records._looks_packed,
        client_records._looks_unpacked,
        read_appearance,
    )
    for cache in caches:
        cache.cache_clear()
    long = "x" * 60_000
    tracemalloc.start()
    for number in range(40):
        for byte in (b"\x80", b"x"):
            for size in (500, 60_000):
                packed = byte * size + b"%d" % number
                client_beside(records_pb2.ClientRecord(), packed, packed)
                client_beside(records_pb2.ClientRecord(), b"", b"Windows\n\n\n\n" + packed)
        forged = records_pb2.ClientRecord(user_agent=f"{long}{number}")
        forged.appearance.CopyFrom(records_pb2.AppearanceRecord(browser=f"{long}{number}"))
        packed_client(client_of(forged))
        forged.ClearField("appearance")
        packed_client(client_of(forged))
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    entries = sum(cache.cache_info().currsize for cache in caches)
    assert entries > 0
    assert kept_bytes < entries * 2048


@pytest.mark.parametrize("packed", [b"\x80" * MAX_PACKED_BYTES, b"x" * MAX_PACKED_BYTES])
def test_an_unpacked_text_is_no_longer_than_an_agent(packed: bytes) -> None:
    text = unpack(packed)
    assert text is not None
    assert len(text) == MAX_USER_AGENT_BYTES
    assert unpack(packed + b"x") is None
    agent = client_beside(records_pb2.ClientRecord(), packed, b"").user_agent
    assert agent == text


def test_a_client_that_is_too_long_to_be_packed_is_stored_as_text() -> None:
    looks = Appearance("x" * 300, "y" * 300, FormFactor.PHONE)
    client = Client("192.0.2.7", CHROME, appearance=looks)
    record, *packed = packed_client(client)
    assert packed == [b"", b""]
    assert client_beside(record, *packed).appearance == looks


def test_phrases_are_only_added_at_the_end() -> None:
    """A record that names a phrase by its number is never rewritten. After an addition, the number
    of phrases grows, and the digest of the first phrases stays the same.
    """
    first = "\0".join(PHRASES[:100])
    assert hashlib.sha256(first.encode()).hexdigest()[:16] == "530357fa66ffc6d9"
    assert len(PHRASES) == len(set(PHRASES)) <= 128


def test_a_phrase_of_a_later_version_makes_the_agent_unknown() -> None:
    assert unpack(bytes([0x80 + len(PHRASES)])) is None
    client = client_beside(records_pb2.ClientRecord(ip_address="192.0.2.7"), b"\xff", b"\xff")
    assert client == Client("192.0.2.7")
    assert client.appearance is None


def test_a_common_agent_is_packed_into_few_bytes() -> None:
    client = Client("192.0.2.7", CHROME)
    record, *packed = packed_client(client)
    assert record == records_pb2.ClientRecord(ip_address="192.0.2.7")
    assert tuple(packed) == PACKED
    assert client_beside(record, *packed) == client


def test_every_agent_of_the_corpus_is_read_back_as_it_was_shown() -> None:
    for agent in AGENTS:
        client = client_beside(*packed_client(Client(user_agent=agent)))
        assert client.user_agent == agent
        shown = read_appearance(agent, NO_HINTS) if agent else None
        assert client.appearance == shown, agent


@given(st.builds(Appearance, *[st.text(max_size=9)] * 2, st.sampled_from(FormFactor)), st.text())
@example(Appearance("Two\nlines", "Chrome 148"), CHROME)
@example(Appearance("Windows", "Chrome 148", name="\n"), CHROME)
@example(Appearance("Windows", "Chrome 148", name=""), CHROME)
def test_an_agent_is_read_back_as_it_was_shown(looks: Appearance, agent: str) -> None:
    """This holds also for characters and lines that can't be packed."""
    client = Client(user_agent=agent or "any", appearance=looks)
    found = client_beside(*packed_client(client))
    assert (found, found.appearance) == (client, looks)


def written_by_the_version_before(client: Client, kept: bytes = b"") -> bytes:
    """The record as the version before writes it: with agents as text. `kept` has the fields that
    the version before does not know, and writes back.
    """
    record = records_pb2.DeviceRecord.FromString(encode_device(device()))
    record.ClearField("packed_agent")
    record.ClearField("packed_looks")
    record.last_client.CopyFrom(client_record(client))
    return record.SerializeToString() + kept


def test_a_text_of_the_version_before_wins_over_an_older_packed_agent() -> None:
    now = Client("192.0.2.7", CHROME)
    _, agent, looks = packed_client(now)
    kept = records_pb2.DeviceRecord(packed_agent=agent, packed_looks=looks).SerializeToString()
    for told, expected in (
        (Client("192.0.2.8", "curl/8.5.0"), Client("192.0.2.8", "curl/8.5.0")),
        (Client("192.0.2.8"), Client("192.0.2.8", CHROME)),
        (Client(hints=MAC), Client(user_agent=CHROME, hints=MAC)),
    ):
        read = decode_device(written_by_the_version_before(told, kept)).last_client
        assert read == expected
        assert appearance(read) == read_appearance(expected.user_agent, expected.hints)


@pytest.mark.parametrize("hints", [WINDOWS_11, MAC, ClientHints(mobile=True)])
def test_a_change_by_the_version_before_hides_no_agent_behind_its_hints(hints: ClientHints) -> None:
    """The version before does not know the agent, so it reads only the hints when it writes the
    record.
    """
    now = Client("192.0.2.7", CHROME, hints=hints)
    before, agent, looks = packed_client(now)
    kept = records_pb2.DeviceRecord(packed_agent=agent, packed_looks=looks).SerializeToString()
    renamed = written_by_the_version_before(client_of(before), kept)
    read = decode_device(renamed).last_client
    assert read == now
    assert appearance(read) == read_appearance(CHROME, hints)
    assert decode_device(encode_device(decode_device(renamed))).last_client.appearance == (
        read_appearance(CHROME, hints)
    )


def test_details_of_the_version_before_are_shown_where_the_agent_is_of_a_later_version() -> None:
    record = client_record(Client("192.0.2.7", hints=WINDOWS_11))
    assert client_beside(record, b"\xff", b"\xff").appearance == read_appearance("", WINDOWS_11)


@pytest.mark.parametrize("client", [Client("192.0.2.8", CHROME), Client(user_agent="Ünïcode/1")])
def test_a_record_of_the_version_before_is_read(client: Client) -> None:
    read = decode_device(written_by_the_version_before(client))
    assert read.last_client == client
    assert decode_device(encode_device(read)) == read
