"""Base64url: only one spelling of each value is accepted."""

from __future__ import annotations

import base64
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.base64url import decode_base64url, encode_base64url

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_OTHERS = "+/=!~ \n\t\0\x7f\u00e9\u0131\uff21"


def decoded_and_encoded_again(text: str) -> bytes | None:
    """Decodes the text leniently. Returns the bytes only if their encoding is exactly the text."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return data if encode_base64url(data) == text else None


def decoded(text: str) -> bytes | None:
    try:
        return decode_base64url(text)
    except ValueError:
        return None


@pytest.mark.parametrize("length", range(4))
def test_every_short_text_is_decoded_by_the_rule(length: int) -> None:
    """The texts have all kinds of last letters at each length, and characters outside the
    alphabet.
    """
    letters = _LETTERS + _OTHERS if length < 3 else _LETTERS[::9] + "AQgwEIM048" + _OTHERS
    for text in map("".join, product(letters, repeat=length)):
        assert decoded(text) == decoded_and_encoded_again(text), repr(text)


@given(st.text(_LETTERS + _OTHERS) | st.text(_LETTERS) | st.text())
def test_any_text_is_decoded_by_the_rule(text: str) -> None:
    assert decoded(text) == decoded_and_encoded_again(text)


@given(st.binary(), st.integers(0, 400), st.sampled_from(_LETTERS + _OTHERS))
def test_bytes_are_decoded_from_their_own_encoding_only(
    data: bytes, place: int, letter: str
) -> None:
    text = encode_base64url(data)
    assert decode_base64url(text) == data
    changed = text[:place] + letter + text[place + 1 :]
    with_four = text[:place] + 4 * letter + text[place:]  # its length stays valid
    for other in (changed, with_four, text + letter, text + "=", letter + text):
        assert other == text or decoded(other) != data
        assert decoded(other) == decoded_and_encoded_again(other)
