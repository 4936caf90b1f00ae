"""Makes text from outside safe for terminals, so that a terminal shows the text and does not obey
it.
"""

from __future__ import annotations

from session_authority.domain.text import is_printable


def printable(text: str) -> str:
    """Replaces control characters by escapes, and also other characters that change the position or
    order of text.
    """
    if is_printable(text):
        return text
    return "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in text)
