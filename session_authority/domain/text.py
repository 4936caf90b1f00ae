"""Cleans texts of callers and end users before the texts are shown to people. Checks names that the
service compares.

`cleaned` and `cut` accept every text. With `is_printable` and `is_name`, other code decides whether
to refuse a text. No function of this module compares texts or normalizes them.
"""

from __future__ import annotations

import re
import unicodedata

# The zero width non-joiner and the zero width joiner. Names in many scripts, and many emoji, need
# these characters.
_JOINERS = "\u200c\u200d"
# Characters that look like a space, but that Python does not treat as white space: four Hangul
# fillers and Braille's empty pattern.
_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0\u2800"
# Selectors that choose whether a symbol is shown as a text or as an emoji.
_EMOJI_FORMS = "\ufe0e\ufe0f"
# Characters that Python calls printable although they are invisible: the blank letters, the
# grapheme joiner, two inherent vowels of Khmer, and selectors of a character's form.
_UNSEEN = frozenset(
    f"{_BLANK_LETTERS}\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
_VIRAMA = 9  # the combining class of the signs that join two consonants into one
# The emoji of the flag of a part of a country: a black flag, invisible letters, and a character
# that ends the letters.
_TAGGED_FLAG = re.compile("(\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f)")
# `cleaned` cuts a text at this number of characters before it examines the characters, so that
# cleaning takes a bounded time. The limit is twice the longest text that is kept, which is a user
# agent. Printable ASCII without double spaces is not cut, because its characters need no
# examination.
_MAX_READ_CHARACTERS = 1024


def is_printable(text: str) -> bool:
    """Returns True if the text has no control characters and no other characters that Python calls
    unprintable, except joiners and the flags of parts of countries. So a terminal treats no
    character of the text as a command. A few of the accepted characters are invisible.
    """
    return all(c.isprintable() or c in _JOINERS for c in _TAGGED_FLAG.sub("", text))


def is_name(text: str) -> bool:
    """Returns True if the text can be a name that is compared with other names. Such a name is not
    empty, starts with a visible character, and ends with neither white space nor a joiner. Such a
    name may contain only these invisible characters: spaces of any width, joiners between other
    characters, and characters that choose the form of a symbol.
    """
    if text.isascii() and text.isprintable():
        return text != "" and text == text.strip(" ")
    if not text or any(end.isspace() or end in _JOINERS for end in (text[0], text[-1])):
        return False
    return _is_visible(text[0]) and all(
        _may_follow(before, c) for before, c in zip(text[0] + text, text, strict=False)
    )


def _may_follow(before: str, character: str) -> bool:
    if character in _EMOJI_FORMS:
        return unicodedata.category(before) == "So"
    if unicodedata.category(character) == "Zs":
        return True
    return is_printable(character) and character not in _UNSEEN


def cleaned(text: str) -> str:
    """Returns the text in a form that can be shown in one line.

    Each run of white space becomes one plain space. White space at the ends is removed. Characters
    that are not printable are removed: control characters, characters that change the writing
    direction, soft hyphens, and private and unassigned characters. Joiners stay where a script or
    an emoji needs them. A few other invisible characters stay, such as the selectors of a symbol's
    form. The result is empty if no visible character is left. Only the first 1,024 characters are
    read, unless the text is printable ASCII without double spaces.
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip(" ")
    pieces = _TAGGED_FLAG.split(text[:_MAX_READ_CHARACTERS])  # every second piece is a flag
    kept = "".join(p if i % 2 else "".join(map(_shown, p)) for i, p in enumerate(pieces))
    kept = " ".join(_without_loose_joiners(kept).split())
    return kept if any(map(_is_visible, kept)) else ""


def cut(text: str, limit: int) -> str:
    """Returns at most the first `limit` characters of a text, without a space at the cut.
    Characters that are shown as one sign stay together, such as a letter with its accents, an
    emoji, or a flag. A sign that is longer than `limit` is cut, too.
    """
    if len(text) <= limit:
        return text
    end = limit
    while end > 0 and _belongs_together(text, end):
        end -= 1
    return cleaned(text[: end or limit])  # `end` is 0 if the first sign is longer than `limit`


def _shown(character: str) -> str:
    if character.isspace() or character in _BLANK_LETTERS:
        return " "
    return character if is_printable(character) else ""


def _is_visible(character: str) -> bool:
    """Returns True if the character is visible by itself. White space, control characters, joiners
    and combining accents are not visible by themselves.
    """
    return unicodedata.category(character)[0] not in "ZCM"


def _without_loose_joiners(text: str) -> str:
    """Removes joiners that connect nothing. A joiner stays after a virama, which joins two
    consonants, and between two characters outside ASCII.
    """
    if not any(joiner in text for joiner in _JOINERS):
        return text
    kept: list[str] = []
    waiting = ""  # a joiner that stays if the next character is outside ASCII
    for character in text:
        if character in _JOINERS:
            before = kept[-1] if kept and not waiting else ""
            if before and unicodedata.combining(before) == _VIRAMA:
                kept.append(character)
            elif before and not before.isascii() and before not in _JOINERS:
                waiting = character
            continue
        if waiting and not character.isascii():
            kept.append(waiting)
        waiting = ""
        kept.append(character)
    return "".join(kept)


def _belongs_together(text: str, i: int) -> bool:
    """Returns True if the characters before and after position `i` are shown as one sign. The
    function knows only the most important rules of Unicode's Annex 29.
    """
    before, after = text[i - 1], text[i]
    if "\U000e0020" <= after <= "\U000e007f":  # the invisible letters inside a flag
        return True
    if after in _JOINERS or unicodedata.category(after)[0] == "M" or _is_skin_tone(after):
        return True
    if before == "\u200d" or unicodedata.combining(before) == _VIRAMA:
        return True
    if "\u1160" <= after <= "\u11ff":  # the vowels and final consonants of a Hangul syllable
        return True
    flags = len(text[:i]) - len(text[:i].rstrip(_FLAG_LETTERS))
    return after in _FLAG_LETTERS and flags % 2 == 1


def _is_skin_tone(character: str) -> bool:
    return "\U0001f3fb" <= character <= "\U0001f3ff"


# Two of these letters make a flag.
_FLAG_LETTERS = "".join(map(chr, range(0x1F1E6, 0x1F200)))
