"""The texts of the page of devices are complete in each language, and are chosen as the reader
wants.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from babel import Locale

from session_authority_client.devices import DevicesPage, locales
from session_authority_client.devices.answers import STATUS
from session_authority_client.devices.card import when
from session_authority_client.devices.catalogue import (
    DEFAULT,
    LANGUAGES,
    accepted,
    places_of,
    shipped,
    texts_in,
)
from session_authority_client.devices.listing import KINDS
from session_authority_client.devices.requests import texts_for

NOW = datetime(2026, 11, 29, 17, 26, tzinfo=UTC)
OTHERS = sorted({*LANGUAGES} - {DEFAULT})


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_all_texts_with_all_placeholders(language: str):
    wanted, there = shipped(DEFAULT), shipped(language)
    assert list(there) == list(wanted)
    for key, message in there.items():
        assert places_of(message) == places_of(wanted[key]), key
        assert isinstance(message, str) == isinstance(wanted[key], str), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_its_plural_forms(language: str):
    needed = {*Locale.parse(language).plural_form.tags, "other"}
    plurals = {k: m for k, m in shipped(language).items() if not isinstance(m, str)}
    assert plurals
    for key, forms in plurals.items():
        assert set(forms) == needed, key
        for form in forms.values():
            assert places_of(form) == places_of(forms), key


@pytest.mark.parametrize("language", OTHERS)
def test_each_language_is_translated(language: str):
    same = {key for key, message in shipped(language).items() if message == shipped(DEFAULT)[key]}
    assert len(same) <= 8, same
    assert not same & {"title", "sign_out", "not_me", "others.button", "alarm.token_replayed"}


def test_every_error_and_every_kind_of_device_has_a_text():
    wanted = {f"error.{code}" for code in STATUS} | {f"kind.{kind}" for kind in KINDS.values()}
    assert wanted <= shipped(DEFAULT).keys()


@pytest.mark.parametrize(
    ("headers", "language"),
    [
        ([], "en"),
        (["de"], "de"),
        (["de-AT,de;q=0.9,en;q=0.8"], "de"),
        (["ja, tr;q=0.5, fr;q=0.9"], "fr"),
        (["ja", "ar-EG;q=0.3"], "ar"),
        (["de;q=0, es"], "es"),
        (["EN-gb"], "en"),
        (["*, xx;q=1"], "en"),
        (["de;q=x"], "de"),
        (["../de, \x00, " + "a," * 10_000 + "de"], "en"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_reader_gets_the_language_that_the_browser_names(headers: list[str], language: str):
    assert texts_for(DevicesPage(), {"accept-language": headers}).language == language


def test_the_most_wanted_language_comes_first():
    assert accepted(["fr;q=0.2, de;q=0.8", "es"]) == ["es", "de", "fr"]


def test_the_app_chooses_the_language():
    german = {"accept-language": ["de"], "cookie": ["language=tr"]}
    assert texts_for(DevicesPage(language="fr"), german).language == "fr"
    by_cookie = DevicesPage(
        language=lambda headers: "".join(headers.get("cookie", ())).partition("=")[2]
    )
    assert texts_for(by_cookie, german).language == "tr"
    assert texts_for(by_cookie, {"accept-language": ["de"]}).language == "de"
    assert texts_for(by_cookie, german, "es").language == "es"


def test_the_app_changes_and_adds_texts():
    own = {"de": {"title": "Meine Geräte"}, "nl": {"title": "Je apparaten"}}
    page = DevicesPage(messages=own)
    german = texts_for(page, {"accept-language": ["de"]})
    assert (german.text("title"), german.text("sign_out")) == ("Meine Geräte", "Abmelden")
    dutch = texts_for(page, {"accept-language": ["nl-BE"]})
    assert (dutch.language, dutch.text("title")) == ("nl", "Je apparaten")
    assert dutch.text("sign_out") == "Sign out"
    assert texts_for(DevicesPage(), {"accept-language": ["de"]}).text("title") == "Ihre Geräte"


@pytest.mark.parametrize(
    ("cookie", "zone"),
    [
        ("Asia/Tokyo", "Asia/Tokyo"),
        *((wrong, "UTC") for wrong in ("", "Mars/Base", "../../etc/passwd", "Asia", "a\x00" * 999)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_the_app_chooses_the_time_zone(cookie: str, zone: str):
    """A browser may send anything as its time zone. It must not break the page."""
    by_cookie = DevicesPage(time_zone=lambda headers: "".join(headers.get("cookie", ())))
    assert str(texts_for(by_cookie, {"cookie": [cookie]}).zone) == zone
    assert str(texts_for(DevicesPage(time_zone="Europe/Berlin"), {}).zone) == "Europe/Berlin"


def test_placeholders_in_an_inserted_value_are_not_replaced():
    texts = texts_in("en", {})
    assert texts.text("numbered", device="{number}", number="{device}") == "{number} ({device})"


@pytest.mark.parametrize(
    ("language", "count", "text"),
    [
        ("en", 1, "1 other device was signed out."),
        ("en", 1234, "1,234 other devices were signed out."),
        ("de", 1234, "1.234 andere Geräte wurden abgemeldet."),
        ("ar", 3, "تم تسجيل الخروج من 3 أجهزة أخرى."),
        ("ar", 11, "تم تسجيل الخروج من 11 جهازًا آخر."),
        ("fr", 0, "0 autre appareil a été déconnecté."),
    ],
)
def test_counts_have_the_form_of_the_language(language: str, count: int, text: str):
    assert texts_in(language, {}).text("done.others", count) == text


def test_each_language_has_its_direction_of_writing():
    assert {texts_in(one, {}).direction for one in OTHERS if one != "ar"} == {"ltr"}
    assert texts_in("ar", {}).direction == "rtl"


@pytest.mark.parametrize(
    ("ago", "english", "german"),
    [
        (timedelta(seconds=-5), "just now", "gerade eben"),
        (timedelta(seconds=59.9), "just now", "gerade eben"),
        (timedelta(minutes=1), "1 minute ago", "vor 1 Minute"),
        (timedelta(minutes=59), "59 minutes ago", "vor 59 Minuten"),
        (timedelta(hours=1), "1 hour ago", "vor 1 Stunde"),
        (timedelta(hours=23, minutes=59), "23 hours ago", "vor 23 Stunden"),
        (timedelta(days=1), "1 day ago", "vor 1 Tag"),
        (timedelta(days=6, hours=23), "6 days ago", "vor 6 Tagen"),
        (timedelta(days=7), "November 22, 2026", "22. November 2026"),
    ],
    ids=str,
)
def test_recent_times_are_relative_and_older_times_are_dates(
    ago: timedelta, english: str, german: str
):
    for language, told in (("en", english), ("de", german)):
        shown = when(texts_in(language, {}), NOW - ago, NOW)
        assert re.sub("<[^>]+>", "", shown) == told


def test_exact_times_and_countries_are_in_the_language_of_the_reader():
    assert re.fullmatch(r"November 29, 2026, 5:26\s?PM UTC", locales.exact(NOW, "en"))
    assert locales.exact(NOW, "de") == "29. November 2026, 17:26 UTC"
    tokyo = ZoneInfo("Asia/Tokyo")
    assert locales.exact(NOW, "de", ZoneInfo("Europe/Berlin")) == "29. November 2026, 18:26 MEZ"
    assert locales.exact(NOW, "fr", tokyo).startswith("30 novembre 2026, 02:26 ")
    assert locales.relative(NOW, NOW + timedelta(days=9), "en", tokyo) == "November 30, 2026"
    assert (locales.country("DE", "fr"), locales.country("XX<", "fr")) == ("Allemagne", "XX<")
    assert locales.direction("x-nonsense") == "ltr"
