"""Owns how foreign text is shown: to a terminal it must be text, never a command."""

from __future__ import annotations

from session_authority.domain.text import is_printable


def printable(text: str) -> str:
    """The text with every control character, and whatever else moves characters around, written
    out.
    """
    if is_printable(text):
        return text
    return "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in text)
