"""Client hints are cleaned and cut, complete earlier hints, and may have any contents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_authority.domain.appearances.appearance import read_appearance
from session_authority.domain.appearances.hints import (
    MAX_BRANDS,
    MAX_FORM_FACTORS,
    MAX_TEXT_CHARACTERS,
    NO_HINTS,
    Brand,
    ClientHints,
    clean_hints,
)
from session_authority.domain.clients import Client
from session_authority.domain.text import is_printable
from tests.appearances.corpus import MAX_NAME_CHARACTERS

AGENT = "Mozilla/5.0 (Linux; Android 10; K) Chrome/148.0.0.0 Mobile Safari/537.36"
NEXT_AGENT = AGENT.replace("148", "149")
ALWAYS_SENT = ClientHints(brands=(Brand("Google Chrome", "148"),), platform="Android", mobile=True)
SENT_WHEN_ASKED = ClientHints(
    brands=(Brand("Google Chrome", "148.0.7778.96"),),
    platform="Android",
    platform_version="16.0.0",
    model="Pixel 10 Pro",
    mobile=True,
    form_factors=("Mobile",),
)


def test_the_hints_of_a_browser_stay_unchanged():
    again = clean_hints(
        brands=SENT_WHEN_ASKED.brands,
        platform="Android",
        platform_version="16.0.0",
        model="Pixel 10 Pro",
        mobile=True,
        form_factors=["Mobile"],
    )
    assert again == SENT_WHEN_ASKED


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ('"Pixel 10 Pro"', "Pixel 10 Pro"),
        (" Pixel\x00 \x1b10\n", "Pixel 10"),
        ('""', ""),
        ("\u202e\u200b", ""),
        ("P" * 41, "P" * 40),
        ("P" * 39 + " x", "P" * 39),
        ("Pixel 10\u00a0Pro 手机 📱", "Pixel 10 Pro"),
        ("手机", ""),
        ("\0" * 10_000 + "P", ""),
    ],
)
def test_a_text_is_cleaned_and_cut(sent: str, kept: str):
    cleaned = clean_hints(
        brands=[Brand("Chrome", sent), Brand(sent, "1")],
        platform=sent,
        platform_version=sent,
        model=sent,
        form_factors=[sent, "Mobile"],
    )
    assert cleaned.brands == (Brand("Chrome", kept), Brand(kept, "1"))[: 2 if kept else 1]
    assert {cleaned.platform, cleaned.platform_version, cleaned.model} == {kept}
    assert cleaned.form_factors == ((kept, "Mobile") if kept else ("Mobile",))


def test_lists_are_cut():
    cleaned = clean_hints(brands=[Brand("Chrome")] * 1000, form_factors=["Mobile"] * 1000)
    assert (len(cleaned.brands), len(cleaned.form_factors)) == (MAX_BRANDS, MAX_FORM_FACTORS)


def test_of_too_many_brands_the_made_up_ones_are_dropped_first():
    names = ["Not.A/Brand", "Chromium", "", "Google Chrome", "Microsoft Edge", "Arc"]
    kept = clean_hints(brands=[Brand(name) for name in names]).brands
    assert [brand.name for brand in kept] == ["Chromium", "Google Chrome", "Microsoft Edge", "Arc"]


@pytest.mark.parametrize(
    "name",
    ["Not.A/Brand", "Not A;Brand", "(Not(A:Brand", "Not=A?Brand", "Not_A Brand"],
)
def test_a_made_up_brand_is_recognized(name: str):
    assert Brand(name).is_made_up
    assert not Brand("Google Chrome").is_made_up


@pytest.mark.parametrize(
    ("newer", "kept"),
    [
        (Client("203.0.113.7"), SENT_WHEN_ASKED),
        (Client(user_agent=AGENT), SENT_WHEN_ASKED),
        (Client(user_agent=AGENT, hints=SENT_WHEN_ASKED), SENT_WHEN_ASKED),
        (
            Client(user_agent=AGENT, hints=ALWAYS_SENT),
            ClientHints(ALWAYS_SENT.brands, "Android", "16.0.0", "Pixel 10 Pro", True, ("Mobile",)),
        ),
        (Client(user_agent=NEXT_AGENT), NO_HINTS),
        (Client(hints=ClientHints(platform="Windows")), ClientHints(platform="Windows")),
    ],
    ids=[
        "no agent",
        "no hints",
        "the same",
        "always sent",
        "another agent",
        "another system",
    ],
)
def test_newer_hints_complete_earlier_hints(newer: Client, kept: ClientHints):
    before = Client(user_agent=AGENT, hints=SENT_WHEN_ASKED)
    assert before.updated_by(newer).hints == kept


texts = st.text(st.characters(), max_size=80) | st.sampled_from(
    ["Windows", "Android", "macOS", "Linux", "0.3", "13.0.0", "SM-S938B", "Quest 3", "Mobile", "XR",
     "Google Chrome", "Chromium", "Android WebView", "Not.A/Brand", "148.0.0.0", "9" * 64, "."]
)  # fmt: skip


@given(
    st.sampled_from(["", AGENT, "curl/8", "Mozilla/5.0 (Windows NT 6.1) Chrome/109.0.0.0"]),
    st.lists(st.builds(Brand, texts, texts), max_size=10),
    texts,
    texts,
    texts,
    st.sampled_from([None, True, False]),
    st.lists(texts, max_size=10),
)
def test_any_hints_are_read(
    agent: str,
    brands: list[Brand],
    platform: str,
    version: str,
    model: str,
    mobile: bool | None,
    kinds: list[str],
):
    hints = clean_hints(
        brands=brands,
        platform=platform,
        platform_version=version,
        model=model,
        mobile=mobile,
        form_factors=kinds,
    )
    assert max(map(len, [hints.platform, hints.model, *hints.form_factors])) <= MAX_TEXT_CHARACTERS
    looks = read_appearance.__wrapped__(agent, hints)
    for text in (looks.operating_system, looks.browser, looks.model, looks.name):
        assert is_printable(text)
        assert len(text) <= MAX_NAME_CHARACTERS
