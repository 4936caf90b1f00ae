"""Which text can be shown to people as it is."""

from __future__ import annotations

# Zero width non-joiner and joiner: names in many scripts need them.
_JOINERS = "\u200c\u200d"


def is_printable(text: str) -> bool:
    """True if a terminal or a page shows every character, and obeys none."""
    return all(c.isprintable() or c in _JOINERS for c in text)
