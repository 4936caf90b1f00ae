"""The names of keys in Redis, and how users spread over partitions and masters."""

from __future__ import annotations

from collections import Counter
from itertools import count, takewhile
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from session_authority.domain.events import EventType
from session_authority.store import KeyNames
from session_authority.store.key_names import PARTITIONS, TAGS, partition
from tests.store.test_store import ODD_USERS

RANGE = 16384 // PARTITIONS
REQUEST = UUID(int=7)

users = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)


def names(keys: KeyNames, user: str) -> list[str]:
    return [
        keys.sessions(user),
        keys.devices(user),
        keys.request(user, REQUEST),
        keys.told(user, b"s" * 16, EventType.SESSION_REPLAYED),
        keys.events(user),
    ]


def slot(name: str) -> int:
    """The slot of a key, as the driver computes it."""
    return key_slot(name.encode())


def test_there_is_one_tag_for_each_range_of_slots() -> None:
    assert len(set(TAGS)) == PARTITIONS == 64
    assert [slot(tag) // RANGE for tag in TAGS] == list(range(PARTITIONS))


def test_each_tag_is_the_smallest_decimal_of_its_range() -> None:
    for place, tag in enumerate(TAGS):
        smaller = takewhile(lambda number: number < int(tag), count())  # noqa: B023 - used at once
        assert tag == str(int(tag))
        assert not [number for number in smaller if slot(str(number)) // RANGE == place]


@pytest.mark.parametrize("masters", [1, 2, 3, 4, 5, 6, 8, 16, 32, 64])
def test_partitions_spread_evenly_over_masters(masters: int) -> None:
    load = Counter(slot(tag) * masters // 16384 for tag in TAGS)
    assert len(load) == masters
    assert max(load.values()) - min(load.values()) <= 1


@given(users)
def test_all_names_of_a_user_share_a_slot(user: str) -> None:
    slots = {slot(name) for name in names(KeyNames(), user)}
    assert slots == {slot(TAGS[partition(user)])}


@pytest.mark.parametrize("user", ODD_USERS, ids=repr)
@pytest.mark.parametrize("prefix", ["sa", "my-app:prod", "a.b"])
def test_all_names_are_below_the_prefix(prefix: str, user: str) -> None:
    keys = KeyNames(prefix)
    for name in [*names(keys, user), keys.wake_channel, keys.probe]:
        assert name.startswith(f"{prefix}:")
    assert len({slot(name) for name in names(keys, user)}) == 1


@given(users, users)
def test_no_two_users_share_a_name(one: str, other: str) -> None:
    keys = KeyNames()
    if one != other:
        assert not set(names(keys, one)[:3]) & set(names(keys, other)[:3])


def test_a_key_never_means_two_things() -> None:
    """User IDs are free text: an ID may look like the end of another key."""
    keys = KeyNames()
    digest = keys.request("ada", REQUEST).rpartition(":")[2]
    for user in ("ada", f"ada:{digest}", f"s:ada:{digest}"):
        assert len(set(names(keys, user))) == 5
    assert keys.request("ada", REQUEST) != keys.request(f"ada:{digest}", REQUEST)


def test_the_names_are_those_of_the_design() -> None:
    tag = TAGS[partition("ada")]
    keys = KeyNames()
    told = keys.told("ada", b"\x01" * 16, EventType.SESSION_REPLAYED)
    assert keys.sessions("ada") == f"sa:{{{tag}}}:s:ada"
    assert keys.devices("ada") == f"sa:{{{tag}}}:d:ada"
    assert keys.request("ada", REQUEST).startswith(f"sa:{{{tag}}}:r:ada:")
    assert told == f"sa:{{{tag}}}:x:{'01' * 16}:session_replayed"
    assert keys.events("ada") == f"sa:{{{tag}}}:e"
    assert keys.wake_channel == "sa:wake"


def test_a_request_id_cannot_be_read_from_its_key() -> None:
    assert str(REQUEST) not in KeyNames().request("ada", REQUEST)
    assert REQUEST.hex not in KeyNames().request("ada", REQUEST)


@pytest.mark.parametrize("form", ["{}", "user-{}", "{:036d}", "{}@example.org"])
def test_users_spread_evenly_over_partitions(form: str) -> None:
    total = 64_000
    load = Counter(partition(form.format(number)) for number in range(total))
    expected = total / PARTITIONS
    surprise = sum((load[p] - expected) ** 2 / expected for p in range(PARTITIONS))
    # 63 degrees of freedom: random users exceed this value once in 20,000 tries, and these users
    # are fixed.
    assert surprise < 120
