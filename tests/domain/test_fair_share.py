"""The share of places that each caller gets, and which stream of a stranger ends for a new one: as
tables.
"""

from __future__ import annotations

import random

import pytest

from session_authority.domain.displacement import displaced
from session_authority.domain.fair_share import HELD_PER_FREE, FairShare


def filled(share: FairShare, caller: str, *, sole: bool = False) -> int:
    """Gives a caller one place after another as long as they fit. Returns how many it holds at the
    end.
    """
    while share.fits(caller, 1, sole=sole):
        share.take(caller, 1)
    return share.held_by(caller)


@pytest.mark.parametrize(
    ("places", "alone", "next_one", "third"),
    [
        (1, 1, 0, 0),
        (2, 1, 1, 0),
        (3, 2, 1, 0),
        (9, 8, 1, 0),
        (10, 8, 1, 1),
        (100, 88, 10, 1),
        (256, 227, 25, 3),
        (1000, 888, 99, 11),
    ],
)
def test_a_caller_that_wants_everything_leaves_places_to_others(
    places: int, alone: int, next_one: int, third: int
):
    share = FairShare(places)
    assert [filled(share, caller) for caller in "abc"] == [alone, next_one, third]
    assert share.held == alone + next_one + third <= places


@pytest.mark.parametrize("places", [1, 2, 10, 256])
def test_the_only_caller_may_have_everything(places: int):
    assert filled(FairShare(places), "a", sole=True) == places


@pytest.mark.parametrize(
    ("held", "caller", "wanted", "fits"),
    [
        ({}, "a", 80, True),
        ({}, "a", 89, False),
        ({"a": 80}, "b", 1, True),
        ({"a": 80}, "b", 17, True),
        ({"a": 80}, "b", 18, False),
        ({"a": 88}, "a", 1, False),
        ({"a": 99}, "b", 1, True),  # the last place, for a caller that has none
        ({"a": 98, "b": 1}, "b", 1, False),
        ({"a": 100}, "b", 1, False),
        ({"a": 50, "b": 44}, "c", 2, True),
    ],
)
def test_a_caller_gets_more_places_only_within_its_share(
    held: dict[str, int], caller: str, wanted: int, fits: bool
):
    share = FairShare(100)
    for name, count in held.items():
        share.take(name, count)
    assert share.fits(caller, wanted, sole=False) is fits


@pytest.mark.parametrize("places", [1, 2, 9, 100, 256])
def test_the_most_that_a_caller_can_hold_alone_fits(places: int):
    share = FairShare(places)
    assert share.fits("a", share.most(sole=False), sole=False)
    assert not share.fits("a", share.most(sole=False) + 1, sole=False)
    assert share.most(sole=True) == places


@pytest.mark.parametrize("callers", [2, 3, 5, 10])
def test_callers_that_want_everything_end_with_equal_shares(callers: int):
    """The first caller holds the most at the start, and is the first to be refused as calls end."""
    share, names = FairShare(256), [f"caller-{number}" for number in range(callers)]
    for name in names:
        filled(share, name)
    for _ in range(256):
        for name in names:
            if share.held_by(name):
                share.give_back(name, 1)
            for other in reversed(names):
                if share.fits(other, 1, sole=False):
                    share.take(other, 1)
    held = [share.held_by(name) for name in names]
    assert max(held) - min(held) <= HELD_PER_FREE, held
    assert sum(held) > 256 * 0.85


@pytest.mark.parametrize("seed", range(10))
def test_no_place_is_lost_or_given_twice(seed: int):
    chance = random.Random(seed)
    share, held = FairShare(64), {f"caller-{number}": 0 for number in range(7)}
    for _ in range(5_000):
        name, places = chance.choice(list(held)), chance.randrange(5)
        if held[name] >= places and chance.random() < 0.5:
            share.give_back(name, places)
            held[name] -= places
        elif share.fits(name, places, sole=False):
            share.take(name, places)
            held[name] += places
        assert share.held == sum(held.values()) <= 64
        assert {caller: share.held_by(caller) for caller in held} == held


A, B = "ipv4:192.0.2.1:", "ipv6:%5B2001:db8::1%5D:"


@pytest.mark.parametrize(
    ("connections", "newcomer", "gone"),
    [
        ([], A + "1", None),
        ([A + "1", A + "1"], A + "1", None),  # the newcomer's own connection has the most streams
        ([A + "1", A + "2"], A + "3", 0),  # of equal connections, the oldest stream ends
        ([A + "1", A + "2"], A + "1", None),
        ([A + "1", A + "2", A + "2"], A + "1", 1),
        ([B + "1", A + "2", A + "3"], A + "4", 1),  # the other address has fewer streams
        ([B + "1", A + "2", A + "3"], B + "2", 1),
        ([B + "1", A + "2"], B + "2", 0),
        ([B + "1", A + "2", A + "3"], B + "1", 1),
    ],
)
def test_a_new_stream_ends_a_stream_of_the_address_with_the_most_streams(
    connections: list[str], newcomer: str, gone: int | None
):
    assert displaced(connections, newcomer) == gone
