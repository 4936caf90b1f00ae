"""Page tokens: each token leads to the next page of its own list, and any other token is
refused.
"""

from __future__ import annotations

import base64
import math
import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain import pages
from session_authority.domain.devices import ListedDevice
from session_authority.domain.pages import (
    MAX_PAGE_BYTES,
    first_page,
    list_scope,
    page_token,
    parse_page_token,
)
from tests.domain.samples import NOW, PHONE_KEY, SECOND, device

SCOPE = list_scope("sami", False)
LAST = ListedDevice(PHONE_KEY, device(last_seen_at=NOW), None, None)
TOKEN = page_token(LAST, SCOPE)

moments = st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
keys = st.binary(min_size=16, max_size=16)
users = st.text(min_size=1, max_size=20)


@given(moments, keys, users, st.booleans())
def test_a_page_starts_exactly_after_the_last_one(
    moment: datetime, key: bytes, user: str, signed_out: bool
):
    last = ListedDevice(key, device(last_seen_at=moment), None, None)
    scope = list_scope(user, signed_out)
    text = page_token(last, scope)
    assert parse_page_token(text, scope) == last.sort_key()
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()


def test_walking_through_the_pages_shows_each_device_once():
    devices = [
        ListedDevice(bytes([n]) * 16, device(last_seen_at=NOW - (n % 4) * SECOND), None, None)
        for n in range(23)
    ]
    devices.sort(key=ListedDevice.sort_key)
    walked: list[ListedDevice] = []
    text = ""
    while len(walked) < len(devices):
        after = parse_page_token(text, SCOPE) if text else (-math.inf, b"")
        assert after is not None
        page = [d for d in devices if d.sort_key() > after][:5]
        walked += page
        text = page_token(page[-1], SCOPE)
    assert walked == devices
    after = parse_page_token(text, SCOPE)
    assert after is not None
    assert not [d for d in devices if d.sort_key() > after]


@pytest.mark.parametrize(
    ("sizes", "page_size", "expected"),
    [
        ([], 5, 0),
        ([10] * 7, 5, 5),
        ([10] * 3, 5, 3),
        ([MAX_PAGE_BYTES], 5, 1),
        ([MAX_PAGE_BYTES + 1, 1], 5, 1),
        ([MAX_PAGE_BYTES - 1, 1, 1], 5, 2),
        ([MAX_PAGE_BYTES // 4] * 9, 5, 4),
        ([MAX_PAGE_BYTES // 4] * 9, 3, 3),
    ],
)
def test_a_page_has_as_many_devices_as_fit(sizes: list[int], page_size: int, expected: int):
    size_of = {bytes([n]) * 16: size for n, size in enumerate(sizes)}
    devices = [ListedDevice(key, device(), None, None) for key in size_of]
    page = first_page(devices, page_size, lambda listed: size_of[listed.key])
    assert page == tuple(devices[:expected])


@given(users, users, st.booleans(), st.booleans())
def test_every_list_has_its_own_scope(
    user: str, other: str, signed_out: bool, other_signed_out: bool
):
    same = (user, signed_out) == (other, other_signed_out)
    assert (list_scope(user, signed_out) == list_scope(other, other_signed_out)) == same


@pytest.mark.parametrize(
    "scope", [list_scope("ben", False), list_scope("sami", True), list_scope("", False), b""]
)
def test_a_token_of_another_list_is_refused(scope: bytes):
    assert parse_page_token(TOKEN, scope) is None


def test_a_cut_or_lengthened_token_is_refused():
    for length in range(len(TOKEN)):
        assert parse_page_token(TOKEN[:length], SCOPE) is None
    for more in ("A", "AA", "AAAA", "=", "==", " ", "\n", "\0", TOKEN):
        assert parse_page_token(TOKEN + more, SCOPE) is None
        assert parse_page_token(more + TOKEN, SCOPE) is None


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("ABCabc019-_"))
def test_a_token_with_one_letter_changed_is_refused(place: int, letter: str):
    forged = TOKEN[:place] + letter + TOKEN[place + 1 :]
    assert (parse_page_token(forged, SCOPE) is None) == (forged != TOKEN)


def test_a_token_in_the_other_alphabet_is_refused():
    tokens = [
        page_token(ListedDevice(bytes([n]) * 16, device(), None, None), SCOPE) for n in range(8)
    ]
    assert any(set("-_") & set(text) for text in tokens)
    for text in tokens:
        other = text.replace("-", "+").replace("_", "/")
        assert other == text or parse_page_token(other, SCOPE) is None


def test_a_token_of_another_version_is_refused():
    raw = base64.urlsafe_b64decode(TOKEN)
    assert parse_page_token(base64.urlsafe_b64encode(b"\x02" + raw[1:]).decode(), SCOPE) is None


@given(
    st.text(max_size=80)
    | st.binary(min_size=33, max_size=33).map(lambda b: base64.urlsafe_b64encode(b).decode())
)
def test_an_invented_token_is_refused(text: str):
    assert parse_page_token(text, SCOPE) is None


@pytest.mark.parametrize(
    "text", ["é" * 44, "ⅷ" * 44, "\ud800" * 44, "=" * 44, "-" * 44, "A" * 100_000]
)
def test_hostile_text_is_refused(text: str):
    assert parse_page_token(text, SCOPE) is None


@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.8e308])
def test_a_position_that_is_no_valid_time_does_no_harm(moment: float):
    """A caller that knows how tokens are made can make a token for any position. It gets a page,
    which may be empty.
    """
    raw = struct.pack(">Bd16s", 1, moment, PHONE_KEY)
    forged = base64.urlsafe_b64encode(raw + pages._digest(moment, PHONE_KEY, SCOPE)).decode()
    after = parse_page_token(forged, SCOPE)
    assert after is None or [d for d in [LAST] if d.sort_key() > after] in ([], [LAST])
