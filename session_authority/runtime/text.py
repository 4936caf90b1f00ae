"""Makes text from outside safe for terminals: a terminal must show control characters in text from
outside, and must not execute them.
"""

from __future__ import annotations

from session_authority.domain.text import is_printable


def printable(text: str) -> str:
    """Returns the text with an escape in place of each character that a terminal would execute, or
    would not show. Examples of characters that get an escape are control characters, and characters
    that change the direction of text.
    """
    if is_printable(text):
        return text
    return "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in text)
