"""Makes text from outside safe for terminals: a terminal must show it and obey none of it."""

from __future__ import annotations

from session_authority.domain.text import is_printable


def printable(text: str) -> str:
    """The text with escapes in place of control characters, and of other characters that move text
    around.
    """
    if is_printable(text):
        return text
    return "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in text)
