"""Any user agent can be read, and the names that are shown for it stay short and printable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ua_parser import parse_user_agent

from session_authority.domain.appearances.appearance import appearance, read_appearance
from session_authority.domain.appearances.browsers import _library, load_rules
from session_authority.domain.appearances.hints import NO_HINTS, ClientHints
from session_authority.domain.clients import Appearance, Client, FormFactor
from session_authority.domain.fields import cut_user_agent
from session_authority.domain.text import is_printable
from tests.appearances.corpus import MAX_NAME_CHARACTERS, lines


def test_the_library_can_be_loaded_before_the_first_call():
    _library.cache_clear()
    load_rules()
    assert _library.cache_info().currsize == 1
    load_rules()
    assert _library.cache_info().misses == 1


def test_browsers_are_read_as_with_all_rules_of_the_library():
    """The service loads only the library's rules for browsers."""
    agents = {line.user_agent for line in lines("agents.txt")}
    assert [a for a in agents if _library().parse_user_agent(a) != parse_user_agent(a)] == []


NAMELESS = ["", "?", "Mozilla/5.0", "()", "nobody knows me", "/", "Mozilla/5.0 ()"]


@pytest.mark.parametrize("user_agent", NAMELESS)
def test_an_agent_without_information_has_an_empty_appearance(user_agent: str):
    assert appearance(Client(user_agent=user_agent)) == Appearance()


def check(user_agent: str, hints: ClientHints = NO_HINTS) -> None:
    """Reads an agent, and checks that the resulting texts can be stored and shown."""
    looks = read_appearance.__wrapped__(cut_user_agent(user_agent), hints)
    assert isinstance(looks.form_factor, FormFactor)
    for text in (looks.operating_system, looks.browser, looks.model, looks.name):
        assert is_printable(text)
        assert text == text.strip()
        assert len(text) <= MAX_NAME_CHARACTERS


HOSTILE = {
    "a version that is no number": "MobileSafari/8621.2 CFNetwork/3826.5 Darwin/2#4.5.0",
    "open brackets": "(" * 512,
    "nested brackets": "Mozilla/5.0 " + "(a;" * 160,
    "many versions": "Chrome/" + "1." * 250,
    "many browsers": "Chrome/1 Safari/1 Firefox/1 " * 18,
    "many spaces": "Android" + " " * 500 + ";",
    "many semicolons": "Mozilla/5.0 (Linux; Android 14" + "; " * 240 + ")",
    "a huge version": "Chrome/" + "9" * 500,
    "letters of a slow pattern": "HbbTV/" + "1.1.1 (" * 70,
    "other scripts": "Хром/1 " * 40,
    "emoji": "😀" * 128,
    "markup": "<script>alert(1)</script>" * 20,
    "SQL": "'; DROP TABLE sessions; --",
    "format strings": "%s%n{0}{}" * 50,
    "a null": "Mozilla/5.0\0 Chrome/131",
    "half of a surrogate pair": "\ud83d Chrome/131",
}


@pytest.mark.parametrize("user_agent", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_agent_is_read_like_any_other(user_agent: str):
    check(user_agent)


@given(st.text(st.characters(), max_size=200))
def test_any_text_is_read(user_agent: str):
    check(user_agent)


@given(
    st.lists(
        st.sampled_from(
            "Mozilla/5.0 Chrome/131 Mobile Safari/537 Android 14 iPhone iPad ( ) ; Linux bot TV"
            " Xbox Watch SM-X Build/ , +".split(" ")
        ),
        max_size=40,
    )
)
def test_any_mixture_of_known_words_is_read(words: list[str]):
    check(" ".join(words))
