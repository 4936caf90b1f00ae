"""Finds the texts that users read, in the language of the user. The file `messages/LANGUAGE.json`
contains the texts of one language, as a JSON object that maps keys to texts.

A text may have placeholders such as `{device}`, which the code calls places. A text that depends on
a count is an object with one text for each plural category of its language (Unicode CLDR). A value
that fills a placeholder is never itself searched for placeholders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import cache, lru_cache
from importlib.resources import files

from session_authority_client.devices import locales

Message = str | Mapping[str, str]
"""A text, or an object with one text for each plural category."""

DEFAULT = "en"
LANGUAGES = ("ar", "de", "en", "es", "fr", "tr")
CATEGORIES = frozenset({"zero", "one", "two", "few", "many", "other"})
_PLACE = re.compile(r"\{([a-z_]+)\}")
_TAG = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*", re.ASCII)
_QUALITY = re.compile(r"q *= *([01](?:\.[0-9]{0,3})?)", re.ASCII)
_MAX_RANGES = 20
# A requested language tag is cut after this many subtags, because each shorter form of a tag costs
# one lookup. No language of an app has more subtags than `_MAX_SUBTAGS`.
_MAX_SUBTAGS = 8


@dataclass(frozen=True)
class Texts:
    """All texts in one language, and the time zone of the reader. `direction` is "ltr" or "rtl"."""

    language: str
    direction: str
    messages: Mapping[str, Message]
    zone: tzinfo = UTC

    def text(self, key: str, count: int | None = None, **places: str) -> str:
        """Returns the text with this key. `places` are the values of the text's placeholders. A
        placeholder without a value stays in the text. `count` chooses the plural form, and is the
        value of the placeholder `{count}`.
        """
        if count is not None:
            places["count"] = locales.number(count, self.language)
        return "".join(
            [
                places.get(part, f"{{{part}}}") if is_place else part
                for part, is_place in self.parts(key, count)
            ]
        )

    def parts(self, key: str, count: int | None = None) -> Sequence[tuple[str, bool]]:
        """Splits the text with this key into pieces, and returns each piece with a flag. The flag
        is True if the piece is the name of a placeholder.
        """
        return _parts(self._form(key, count))

    def has(self, key: str) -> bool:
        """Returns True if there is a text with this key."""
        return key in self.messages

    def _form(self, key: str, count: int | None) -> str:
        message = self.messages[key]
        if isinstance(message, str):
            return message
        category = locales.plural_category(0 if count is None else count, self.language)
        return message.get(category) or message["other"]


@lru_cache(maxsize=4096)
def _parts(text: str) -> Sequence[tuple[str, bool]]:
    pieces = enumerate(_PLACE.split(text))
    return tuple((piece, number % 2 == 1) for number, piece in pieces if piece)


def checked_messages(given: Mapping[str, Mapping[str, Message]]) -> None:
    """Checks an app's own texts. Raises ValueError if a language or a text is malformed."""
    for language, texts in given.items():
        if not _TAG.fullmatch(language):
            raise ValueError(f"messages: {language!r} is no language, like 'de' or 'pt-BR'")
        for key, message in texts.items():
            forms = {"other": message} if isinstance(message, str) else message
            known = isinstance(forms, Mapping) and forms.keys() <= CATEGORIES and "other" in forms
            if not known or not all(isinstance(form, str) for form in forms.values()):
                raise ValueError(
                    f"messages: {language!r}, {key!r}: must be a text, or one for each plural"
                    " category, 'other' among them"
                )


def places_of(message: Message) -> frozenset[str]:
    """Returns the names of all placeholders in a text, in any of its plural forms."""
    forms = (message,) if isinstance(message, str) else message.values()
    return frozenset(name for form in forms for name in _PLACE.findall(form))


@cache
def shipped(language: str) -> Mapping[str, Message]:
    """Returns this package's own texts in a language."""
    folder = files("session_authority_client.devices") / "messages"
    texts: Mapping[str, Message] = json.loads((folder / f"{language}.json").read_text("utf-8"))
    return texts


def texts_in(language: str, own: Mapping[str, Mapping[str, Message]], zone: tzinfo = UTC) -> Texts:
    """Returns all texts in a language. If the language lacks a text, the English text is used.
    `own` are the app's texts, which replace this package's texts in the same language.
    """
    known = shipped(language) if language in LANGUAGES else {}
    messages = {**shipped(DEFAULT), **own.get(DEFAULT, {}), **known, **own.get(language, {})}
    return Texts(language, locales.direction(language), messages, zone)


def chosen(wanted: Iterable[str], own: Mapping[str, object]) -> str:
    """Returns the first wanted language for which there are texts. Returns English if there are
    texts for none of the wanted languages. If "de-AT" is wanted and has no texts, "de" is used
    instead.
    """
    there = {name.lower(): name for name in (*LANGUAGES, *own)}
    for tag in wanted:
        parts = tag.lower().split("-")[:_MAX_SUBTAGS]
        for length in range(len(parts), 0, -1):
            if found := there.get("-".join(parts[:length])):
                return found
    return DEFAULT


def accepted(headers: Sequence[str]) -> Sequence[str]:
    """Returns the languages in `Accept-Language` headers. The languages with the highest quality
    value come first. Only the first 20 entries are read. The entry `*` and languages with the
    quality value 0 are left out.
    """
    ranges: list[tuple[float, str]] = []
    for member in ",".join(headers).split(",")[:_MAX_RANGES]:
        tag, *parameters = (part.strip(" \t") for part in member.split(";"))
        qualities = [found for each in parameters if (found := _QUALITY.fullmatch(each))]
        quality = float(qualities[0][1]) if qualities else 1.0
        if _TAG.fullmatch(tag) and quality > 0:
            ranges.append((-quality, tag))
    return [tag for _, tag in sorted(ranges, key=lambda each: each[0])]
