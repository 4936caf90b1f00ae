"""Makes text from outside safe for terminals, so that a terminal shows the text and does not obey
it.
"""

from __future__ import annotations

from session_authority.domain.text import is_printable


def printable(text: str) -> str:
    """Replaces each character that a terminal would obey, or would not show, with an escape.
    Examples are control characters, and characters that change the direction of text.
    """
    if is_printable(text):
        return text
    return "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in text)
